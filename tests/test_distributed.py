"""Several processes over gloo give the same steps and measurements as a single process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.measure import TensorExamples, evaluate, published_gradient_norm, split_into_chunks
from accelerando.measure.chunks import Chunks
from accelerando.measure.curvature import sharpness_of_chunks
from accelerando.measure.full_gradient import full_gradient_of_chunks
from accelerando.measure.subset import split_subset, subset_gradient
from accelerando.models import Cnn, Mlp
from accelerando.training.batch_norm import SyncBatchNorm2d, convert_sync_batch_norm
from accelerando.training.step import SgdStep
from helpers import forkserver

Function = Callable[[Team], Any]


def _run_rank(function: Function, team: Team, store: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=team.rank, world_size=team.world_size
    )
    queue.put((team.rank, function(team)))
    dist.destroy_process_group()


def run_distributed(function: Function, world_size: int, folder: Path) -> list[Any]:
    """Call a function in ``world_size`` processes and return the results by rank."""
    context = forkserver()
    queue, store = context.Queue(), str(folder / "store")
    teams = [Team(rank, world_size) for rank in range(world_size)]
    processes = [
        context.Process(target=_run_rank, args=(function, team, store, queue)) for team in teams
    ]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return [results[rank] for rank in range(world_size)]


def make_data(n: int = 41) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 4, 4, generator=generator)
    return images, torch.randint(0, 3, (n,), generator=generator)


def make_model(kind: str) -> nn.Module:
    """An MLP, or a CNN with a normalisation layer of this kind."""
    torch.manual_seed(3)
    return Mlp((1, 4, 4), 3, [6]) if kind == "mlp" else Cnn((1, 4, 4), 3, [4], kind)


def train(
    team: Team, *, kind: str, batch_size: int, sync_batch_norm: bool = False
) -> dict[str, Any]:
    """Train for an epoch and a half with momentum; return losses, weights and buffers."""
    model, (images, labels) = make_model(kind), make_data()
    if sync_batch_norm:
        convert_sync_batch_norm(model)
    step = SgdStep(model, momentum=0.9, weight_decay=0.01, team=team)
    losses = []
    for offset in [*range(0, 41, batch_size), *range(0, 20, batch_size)]:
        x, y = images[offset : offset + batch_size], labels[offset : offset + batch_size]
        share = team.share(len(y))
        losses.append(step(x[share], y[share], 0.1, len(y)).item())
    return {"losses": losses, **{k: v.numpy() for k, v in model.state_dict().items()}}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [8, 7, 5, 2])
def test_distributed_steps_equal_those_of_a_single_process(
    world_size: int, batch_size: int, tmp_path: Path
) -> None:
    function = partial(train, kind="mlp", batch_size=batch_size)
    expected = function(SINGLE_PROCESS)
    for result in run_distributed(function, world_size, tmp_path):
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("batch_size", [8, 7, 2])
def test_sync_batch_norm_equals_a_single_process(batch_size: int, tmp_path: Path) -> None:
    expected = train(SINGLE_PROCESS, kind="batch", batch_size=batch_size)
    function = partial(train, kind="batch", batch_size=batch_size, sync_batch_norm=True)
    for result in run_distributed(function, 3, tmp_path):
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_batch_norm_without_sync_differs_from_a_single_process(tmp_path: Path) -> None:
    single = train(SINGLE_PROCESS, kind="batch", batch_size=8)
    results = run_distributed(partial(train, kind="batch", batch_size=8), 2, tmp_path)
    assert abs(np.subtract(results[0]["losses"], single["losses"])).max() > 1e-3


def test_conversion_to_sync_batch_norm_keeps_the_state_dict() -> None:
    model = nn.Sequential(make_model("batch"), nn.Sequential(nn.BatchNorm2d(3)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert_sync_batch_norm(model)
    assert sum(isinstance(m, SyncBatchNorm2d) for m in model.modules()) == 2
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())


def measure(team: Team, *, kind: str, chunk: int) -> dict[str, float]:
    """Return all measurements of a fixed model on fixed data, in float64."""
    model, examples = make_model(kind), TensorExamples(*make_data())
    order = torch.randperm(41, generator=torch.Generator().manual_seed(1))
    chunks = split_into_chunks(examples, chunk, order=order, team=team)
    options = {"variance": kind != "batch", "per_layer": True, "dtype": torch.float64}
    full = full_gradient_of_chunks(model, chunks, **options)
    values = {name: value for name, value in vars(full).items() if isinstance(value, float)}
    assert full.per_layer is not None
    values |= full.per_layer | evaluate(model, chunks)._asdict()
    values["sharpness"] = sharpness_of_chunks(model, chunks, tolerance=1e-6)
    batches = Chunks(examples, torch.split(order, 7), team)
    values["published"] = published_gradient_norm(model, batches)
    subset = Chunks(examples, split_subset(order[:30], 512, classes=3, coupled=False), team)
    estimates = subset_gradient(model, subset, examples=41)._asdict()
    return values | {f"subset {name}": value for name, value in estimates.items()}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(("kind", "chunk"), [("mlp", 7), ("mlp", 21), ("batch", 9), ("batch", 41)])
def test_distributed_measurements_equal_those_of_a_single_process(
    world_size: int, kind: str, chunk: int, tmp_path: Path
) -> None:
    """With 21 examples per chunk there are two chunks, so that one of three processes has none."""
    function = partial(measure, kind=kind, chunk=chunk)
    expected = function(SINGLE_PROCESS)
    for result in run_distributed(function, world_size, tmp_path):
        if "variance_error" in expected:  # estimated from other pairs of the same chunks
            error = result.pop("variance_error")
            assert error == pytest.approx(expected["variance_error"], rel=0.5, nan_ok=True)
        assert result == pytest.approx({n: expected[n] for n in result}, rel=1e-5, abs=1e-9)


def measure_in_float32(team: Team, *, kind: str) -> dict[str, float]:
    chunks = split_into_chunks(TensorExamples(*make_data()), 9, team=team)
    full = full_gradient_of_chunks(make_model(kind), chunks, variance=kind != "batch")
    values = {"norm": full.norm, "loss": full.loss, "accuracy": full.accuracy}
    return values | ({} if full.variance is None else {"variance": full.variance})


@pytest.mark.parametrize("kind", ["mlp", "batch"])
def test_distributed_measurements_in_float32_equal_those_of_a_single_process(
    kind: str, tmp_path: Path
) -> None:
    function = partial(measure_in_float32, kind=kind)
    for result in run_distributed(function, 3, tmp_path):
        assert result == pytest.approx(function(SINGLE_PROCESS), rel=1e-5)


def call_collectives(team: Team) -> dict[str, Any]:
    """Return the results of all collective operations, on values that depend on the rank."""
    floats, doubles = torch.full((2, 2), float(team.rank)), torch.ones((), dtype=torch.float64)
    team.all_reduce([floats, doubles])
    buffer = torch.tensor([team.rank])
    team.broadcast([buffer], 1)
    return {
        "all_reduce": (floats.tolist(), doubles.item()),
        "broadcast": buffer.item(),
        "any": [team.any(team.rank == 1), team.any(False)],
        "broadcast_bytes": team.broadcast_bytes(b"from rank %d" % team.rank),
    }


def test_collective_operations(tmp_path: Path) -> None:
    for result in run_distributed(call_collectives, 3, tmp_path):
        assert result == {
            "all_reduce": ([[3.0, 3.0], [3.0, 3.0]], 3.0),
            "broadcast": 1,
            "any": [True, False],
            "broadcast_bytes": b"from rank 0",
        }


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 41])
def test_shares_equal_those_of_numpy_array_split(world_size: int, count: int) -> None:
    items = np.arange(count)
    for rank, expected in enumerate(np.array_split(items, world_size)):
        assert items[Team(rank, world_size).share(count)].tolist() == expected.tolist()
