"""Models: published parameter counts, and equality with independent implementations."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, cross_entropy, group_norm

from accelerando.build import build
from accelerando.models import Cnn, ResNet, WideResNet, imagenet_resnet
from model_inputs import CLASSES, NORM_LAYERS, batch, randomised

CONF = Path(__file__).parents[1] / "conf" / "model"


def from_yaml(name: str, shape: Sequence[int], classes: int, **changes: object) -> nn.Module:
    target = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(target, dict)
    assert target.pop("name") == name
    model: nn.Module = build("model", {**target, **changes}, shape=list(shape), classes=classes)
    return model


def gradients(logits: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(cross_entropy(logits, labels), parameters))


def assert_all_close(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(actual) == len(expected) > 0
    for tensor, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("resnet18", (3, 32, 32), 100, 11_220_132),
        ("resnet34", (3, 32, 32), 100, 21_328_292),
        ("resnet50", (3, 32, 32), 100, 23_705_252),
        ("wide_resnet_28_10", (3, 32, 32), 10, 36_479_194),
        ("wide_resnet_28_10", (3, 32, 32), 100, 36_536_884),
        ("wide_resnet_16_8", (3, 32, 32), 10, 10_961_370),
        ("wide_resnet_16_8", (3, 32, 32), 100, 11_007_540),
        ("wide_resnet_40_4", (3, 32, 32), 10, 8_949_210),
        ("wide_resnet_40_4", (3, 32, 32), 100, 8_972_340),
        ("resnet34_imagenet", (3, 224, 224), 1000, 21_797_672),
    ],
)
def test_parameter_count_equals_the_published_one(
    name: str, shape: tuple[int, ...], classes: int, count: int
) -> None:
    with torch.device("meta"):
        model = from_yaml(name, shape, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def torchvision_resnet(depth: int, norm: str) -> nn.Module:
    build_model: Callable[..., nn.Module] = getattr(torchvision.models, f"resnet{depth}")
    return build_model(num_classes=CLASSES, norm_layer=NORM_LAYERS[norm])


def torchvision_cifar_resnet(depth: int, channels: int, norm: str) -> nn.Module:
    """Adapt torchvision's ResNet to small images."""
    model = torchvision_resnet(depth, norm)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    if norm == "none":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.empty(module.out_channels))
    return randomised(model)


@pytest.mark.parametrize(
    ("depth", "shape", "norm"),
    [
        (18, (3, 32, 32), "batch"),
        (18, (1, 17, 13), "group"),
        (18, (1, 17, 13), "none"),
        (34, (3, 11, 18), "batch"),
        (50, (3, 17, 13), "batch"),
        (50, (3, 8, 9), "none"),
    ],
    ids=str,
)
def test_resnet_equals_torchvision(depth: int, shape: tuple[int, int, int], norm: str) -> None:
    images, labels = batch(3, *shape)
    other = torchvision_cifar_resnet(depth, shape[0], norm).train()
    own = from_yaml(f"resnet{depth}", shape, CLASSES, norm=norm).double().train()
    values = other.state_dict().values()  # in the same order under different names
    own.load_state_dict(dict(zip(own.state_dict(), values, strict=True)))
    expected, actual = other(images), own(images)
    assert_all_close([actual], [expected])
    assert_all_close(
        gradients(actual, labels, list(own.parameters())),
        gradients(expected, labels, list(other.parameters())),
    )
    # including the running statistics of the training pass, if any
    assert_all_close(list(own.state_dict().values()), list(other.state_dict().values()))
    assert_all_close([own.eval()(images)], [other.eval()(images)])


@pytest.mark.parametrize(("depth", "norm"), [(18, "group"), (34, "batch"), (50, "batch")])
def test_imagenet_resnet_equals_torchvision(depth: int, norm: str) -> None:
    torch.manual_seed(0)
    own = imagenet_resnet((3, 64, 64), CLASSES, depth=depth, norm=norm)
    torch.manual_seed(0)
    other = torchvision_resnet(depth, norm)
    assert list(own.state_dict()) == list(other.state_dict())
    images = batch(2, 3, 64, 64)[0].float()
    assert torch.equal(own(images), other(images))


def test_imagenet_resnet_stem_for_one_channel() -> None:
    torch.manual_seed(0)
    stem = imagenet_resnet((1, 64, 64), CLASSES).conv1
    assert isinstance(stem, nn.Conv2d)
    assert stem.weight.shape == (64, 1, 7, 7)
    assert (stem.stride, stem.padding, stem.bias) == ((2, 2), (3, 3), None)
    deviation = (2 / (64 * 7 * 7)) ** 0.5  # He initialisation, fan-out
    assert float(stem.weight.detach().std()) == pytest.approx(deviation, rel=0.1)


def functional_wide_resnet(
    model: nn.Module, norm: str, x: Tensor, depth: int, width: int
) -> Tensor:
    """Evaluate WRN-depth-width with functional operations on the model's tensors in order.

    Zagoruyko and Komodakis, arXiv 1605.07146, Table 1 and Figure 1(b); as in their code, the 1 x 1
    shortcut takes the activation if the number of channels changes.
    """
    parameters = iter(model.parameters())
    statistics = iter([buffer.clone() for buffer in model.buffers() if buffer.ndim == 1])

    def convolution(x: Tensor, out: int, size: int, stride: int) -> Tensor:
        weight = next(parameters)
        assert weight.shape == (out, x.shape[1], size, size)
        bias = next(parameters) if norm == "none" else None
        return conv2d(x, weight, bias, stride, padding=(size - 1) // 2)

    def activation(x: Tensor) -> Tensor:
        if norm == "group":
            x = group_norm(x, x.shape[1] // 8, next(parameters), next(parameters))
        if norm == "batch":
            mean, variance = next(statistics), next(statistics)
            scale, shift = next(parameters), next(parameters)
            x = batch_norm(x, mean, variance, scale, shift, training=model.training)
        return x * (x > 0)

    x = convolution(x, 16, 3, 1)
    for out, first_stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for index in range((depth - 4) // 6):
            stride = first_stride if index == 0 else 1
            active = activation(x)
            branch = activation(convolution(active, out, 3, stride))
            branch = convolution(branch, out, 3, 1)
            x = branch + (x if x.shape[1] == out else convolution(active, out, 1, stride))
    logits: Tensor = activation(x).mean((2, 3)) @ next(parameters).T + next(parameters)
    assert next(parameters, None) is None
    assert next(statistics, None) is None
    return logits


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(
    ("depth", "width", "shape"),
    [(10, 1, (3, 32, 32)), (16, 2, (1, 17, 13)), (22, 3, (3, 11, 18))],
    ids=str,
)
def test_wide_resnet_equals_the_paper(
    depth: int, width: int, shape: tuple[int, int, int], norm: str
) -> None:
    images, labels = batch(3, *shape)
    model = randomised(WideResNet(shape, CLASSES, depth, width, norm)).train()
    parameters = list(model.parameters())
    expected = functional_wide_resnet(model, norm, images, depth, width)
    actual = model(images)
    assert_all_close([actual], [expected])
    assert_all_close(gradients(actual, labels, parameters), gradients(expected, labels, parameters))
    model.eval()  # uses the running statistics of the training pass
    assert_all_close([model(images)], [functional_wide_resnet(model, norm, images, depth, width)])


def test_wide_resnet_starts_as_published() -> None:
    """Kaiming normal with the fan-out for convolutions, zero biases; other weights by default."""
    torch.manual_seed(0)
    model = WideResNet((3, 32, 32), CLASSES, 16, 4)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            assert float(module.weight.detach().std()) == pytest.approx(std, rel=0.1)
    linear = model.linear
    assert isinstance(linear, nn.Linear)
    assert linear.bias.count_nonzero() == 0
    assert float(linear.weight.detach().abs().max()) <= linear.in_features**-0.5


def test_wide_resnet_can_start_from_the_default_initialization() -> None:
    torch.manual_seed(0)
    model = WideResNet(SMALL, 10, 10, 1, initialization="default")
    assert isinstance(model.linear, nn.Linear)
    assert model.linear.bias.count_nonzero() > 0


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_cnn_equals_its_layers_in_sequence(norm: str) -> None:
    """Parameter names, initial weights and outputs must stay those of existing records."""
    torch.manual_seed(2)
    layers: list[nn.Module] = []
    for channels, out, groups in ((3, 4, 1), (4, 16, 2), (16, 24, 3)):
        layers.append(nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=norm == "none"))
        layers += [nn.BatchNorm2d(out)] if norm == "batch" else []
        layers += [nn.GroupNorm(groups, out)] if norm == "group" else []
        layers.append(nn.ReLU())
    expected = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 2 * 2, CLASSES))
    torch.manual_seed(2)
    model = Cnn((3, 16, 10), CLASSES, [4, 16, 24], norm)
    assert list(model.state_dict()) == list(expected.state_dict())
    images = batch(2, 3, 16, 10)[0].float()
    assert torch.equal(model(images), expected(images))


SMALL = (3, 32, 32)
NORM = "norm must be one of none, batch, group, got 'x'"
IMAGENET_NORM = "norm must be one of batch, group, got 'none'"
INVALID: list[tuple[Callable[[], object], str]] = [
    (lambda: Cnn(SMALL, 10, [], "x"), NORM),
    (lambda: ResNet(SMALL, 10, [1, 1, 1, 1], norm="x"), NORM),
    (lambda: ResNet(SMALL, 10, [2, 2]), "blocks must be 4 numbers, one per stage, got [2, 2]"),
    (lambda: ResNet(SMALL, 10, [2, 0, 2, 2]), "blocks must be at least 1, got 0"),
    (lambda: WideResNet(SMALL, 10, 10, 1, "x"), NORM),
    (
        lambda: WideResNet(SMALL, 10, 10, 1, initialization="x"),
        "initialization must be fan_out or default, got 'x'",
    ),
    (lambda: WideResNet(SMALL, 10, 26, 1), "depth must be 6k + 4 (10, 16, 22, 28, ...), got 26"),
    (lambda: WideResNet(SMALL, 10, 4, 1), "depth must be at least 10, got 4"),
    (lambda: WideResNet(SMALL, 10, 10, 0), "width must be at least 1, got 0"),
    (lambda: imagenet_resnet(SMALL, 10, 101), "depth must be one of 18, 34, 50, got 101"),
    (lambda: imagenet_resnet(SMALL, 10, 34, "none"), IMAGENET_NORM),
]


@pytest.mark.parametrize(("build_model", "message"), INVALID)
def test_invalid_arguments_are_refused(build_model: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_model()


def test_torchvision_is_imported_only_for_its_own_models() -> None:
    code = (
        "import sys; from accelerando.models import WideResNet, ResNet, imagenet_resnet;"
        "ResNet((1, 8, 8), 2, [1, 1, 1, 1]); print('torchvision' in sys.modules);"
        "imagenet_resnet((1, 8, 8), 2); print('torchvision' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"], result.stderr
