"""All model families with every norm: input sizes, functional calls, autocast, compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from accelerando.models import ResNet, WideResNet, imagenet_resnet
from model_inputs import CLASSES, NORM_LAYERS, batch, randomised

FAMILIES: dict[str, Callable[[Sequence[int], str], nn.Module]] = {
    "resnet": lambda shape, norm: ResNet(shape, CLASSES, [1, 1, 1, 1], norm=norm),
    "wide_resnet": lambda shape, norm: WideResNet(shape, CLASSES, 10, 2, norm),
    "imagenet": lambda shape, norm: imagenet_resnet(shape, CLASSES, 18, norm),
}
VARIANTS = [
    (family, norm)
    for family in FAMILIES
    for norm in NORM_LAYERS
    if (family, norm) != ("imagenet", "none")
]
each_variant = pytest.mark.parametrize(("family", "norm"), VARIANTS)


@each_variant
def test_requested_norm_is_used(family: str, norm: str) -> None:
    with torch.device("meta"):
        modules = list(FAMILIES[family]((3, 32, 32), norm).modules())
    for name, layer in (("batch", _BatchNorm), ("group", nn.GroupNorm)):
        assert any(isinstance(module, layer) for module in modules) == (name == norm)
    for module in modules:
        if isinstance(module, nn.GroupNorm):
            assert module.num_channels == 8 * module.num_groups
        if isinstance(module, nn.Conv2d):
            assert (module.bias is not None) == (norm == "none")


@each_variant
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 64), (1, 8, 8)], ids=str)
def test_any_image_size_and_a_single_example(
    family: str, norm: str, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(1)
    model = FAMILIES[family](shape, norm)
    images = batch(2, *shape)[0].float()
    logits = model(images)
    assert logits.shape == (2, CLASSES)
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])
    model.eval()
    torch.testing.assert_close(model(images[:1]), model(images)[:1], rtol=1e-4, atol=1e-5)


@each_variant
def test_functional_call_leaves_the_model_unchanged(family: str, norm: str) -> None:
    model = randomised(FAMILIES[family]((3, 32, 32), norm))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in before.items()}
    images, _ = batch(2, 3, 32, 32)
    result = functional_call(model, state, (images,))
    assert torch.equal(images, batch(2, 3, 32, 32)[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert changed == {name for name, _ in model.named_buffers()}
    assert torch.equal(result, model(images))


@each_variant
def test_autocast_and_channels_last_are_accurate(family: str, norm: str) -> None:
    torch.manual_seed(1)
    model = FAMILIES[family]((3, 32, 32), norm).eval()
    images = batch(2, 3, 32, 32)[0].float()
    expected = model(images)
    scale = float(expected.detach().abs().max())
    with torch.autocast("cpu", torch.bfloat16):
        bfloat16 = model(images)
    assert bfloat16.dtype == torch.bfloat16
    torch.testing.assert_close(bfloat16.float(), expected, rtol=0, atol=0.05 * scale)
    channels_last = model.to(memory_format=torch.channels_last)(
        images.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(channels_last, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("family", ["resnet", "wide_resnet"])
def test_model_compiles_without_graph_breaks(family: str) -> None:
    torch.compiler.reset()  # torch limits the number of compilations per process
    torch.manual_seed(1)
    model = FAMILIES[family]((3, 32, 32), "batch").eval()
    images = batch(1, 3, 32, 32)[0].float()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)
