"""The private parts of PyTorch still behave as torch_adapter expects."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from accelerando import torch_adapter
from accelerando.launch.planning import PRELOAD


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]
)
def test_batch_norm_is_the_base_of_all_batch_norm_layers(layer: type[nn.Module]) -> None:
    assert issubclass(layer, torch_adapter.BatchNorm)
    assert not issubclass(nn.GroupNorm, torch_adapter.BatchNorm)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_forward_hooks_are_detected(register: str) -> None:
    module = nn.Linear(1, 1)
    assert not torch_adapter.has_forward_hooks(module)
    handle = getattr(module, register)(lambda *_: None)
    assert torch_adapter.has_forward_hooks(module)
    handle.remove()
    assert not torch_adapter.has_forward_hooks(module)


class Counter(nn.Module):
    """Counts its calls in a buffer, both in place and by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("assigned", torch.zeros(()))
        self.calls: Tensor
        self.assigned: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        self.assigned = self.assigned + 1
        return inputs


def test_replaced_buffers_receive_the_updates_of_a_forward_pass() -> None:
    module = Counter()
    originals = dict(module.named_buffers())
    copies = {id(b): b.clone() for b in module.buffers()}
    with torch_adapter.replaced_buffers([module], copies):
        module(torch.ones(1))
        assert (float(module.calls), float(module.assigned)) == (1, 1)
    assert all(b is originals[name] for name, b in module.named_buffers())
    assert (float(module.calls), float(module.assigned)) == (0, 0)


def test_a_marked_batch_dimension_is_compiled_once() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(1)
        return graph.forward

    torch.compiler.reset()
    double = torch.compile(lambda x: 2 * x, backend=backend)
    for size in (8, 5, 16, 3):
        images = torch.ones(size, 2)
        torch_adapter.mark_batch_dynamic(images)
        assert double(images).shape == (size, 2)
    assert len(graphs) == 1


def test_default_store_is_the_store_of_the_process_group(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        torch_adapter.default_store().set("key", "value")
        assert torch_adapter.default_store().check(["key"])
        assert torch_adapter.default_store().get("key") == b"value"
    finally:
        dist.destroy_process_group()


def test_the_single_value_error_of_batch_norm_is_recognised() -> None:
    with pytest.raises(ValueError, match="value") as caught:
        nn.BatchNorm1d(2)(torch.zeros(1, 2))
    assert torch_adapter.is_single_value_error(caught.value)
    assert not torch_adapter.is_single_value_error(ValueError("something else"))


def test_a_failed_allocation_is_recognised_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert torch_adapter.is_out_of_memory(caught.value)
    assert torch_adapter.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert torch_adapter.is_out_of_memory(MemoryError())
    assert not torch_adapter.is_out_of_memory(RuntimeError("something else"))


@pytest.mark.parametrize("name", [name for name in PRELOAD if name.startswith("torch.")])
def test_modules_preloaded_for_speed_exist(name: str) -> None:
    importlib.import_module(name)


def test_operations_on_lists_of_tensors() -> None:
    first, second = [torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 1.0])]
    torch_adapter.foreach_add_(first, second, alpha=2)
    assert first[0].tolist() == [5, 6]
    torch_adapter.foreach_mul_(first, 2)
    assert first[0].tolist() == [10, 12]
    torch_adapter.foreach_lerp_(second, first, 0.5)
    assert second[0].tolist() == [5.5, 6.5]
    torch_adapter.foreach_copy_(first, second)
    assert first[0].tolist() == [5.5, 6.5]
    (norm,) = torch_adapter.foreach_norm([torch.tensor([3.0, 4.0])], 2, torch.float64)
    assert norm == 5
