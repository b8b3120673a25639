"""The models against the literature's sizes and against independent builds with equal weights."""

from __future__ import annotations

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
from accelerando.config import RunSettings
from accelerando.models import Cnn, ResNet, WideResNet, imagenet_resnet

CONF = Path(__file__).parents[1] / "conf" / "model"
CLASSES = 7


def from_yaml(name: str, shape: Sequence[int], classes: int, **changes: object) -> nn.Module:
    config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), changes)
    assert isinstance(config, RunSettings)
    assert config.name == name
    model: nn.Module = build(config, leave_out=("name",), shape=list(shape), classes=classes)
    return model


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(*shape, generator=random, dtype=torch.float64)
    return images, torch.randint(0, CLASSES, shape[:1], generator=random)


def shuffled(model: nn.Module) -> nn.Module:
    """The model in float64, its scales and biases random too, so that none stands for another."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.double()


def gradients(logits: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(cross_entropy(logits, labels), parameters))


def close(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


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
def test_has_as_many_parameters_as_published(
    name: str, shape: tuple[int, ...], classes: int, count: int
) -> None:
    with torch.device("meta"):
        model = from_yaml(name, shape, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


NORM_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(channels // 8, channels),
    "none": nn.Identity,
}


def torchvisions(depth: int, norm: str) -> nn.Module:
    make: Callable[..., nn.Module] = getattr(torchvision.models, f"resnet{depth}")
    return make(num_classes=CLASSES, norm_layer=NORM_LAYERS[norm])


def twin(depth: int, channels: int, norm: str) -> nn.Module:
    """The ResNet of torchvision in the CIFAR form."""
    model = torchvisions(depth, norm)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    if norm == "none":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.empty(module.out_channels))
    return shuffled(model)


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
def test_resnet_is_torchvisions(depth: int, shape: tuple[int, int, int], norm: str) -> None:
    images, labels = batch(3, *shape)
    other = twin(depth, shape[0], norm).train()
    own = from_yaml(f"resnet{depth}", shape, CLASSES, norm=norm).double().train()
    values = other.state_dict().values()  # in the same order, under other names
    own.load_state_dict(dict(zip(own.state_dict(), values, strict=True)))
    expected, actual = other(images), own(images)
    close([actual], [expected])
    close(
        gradients(actual, labels, list(own.parameters())),
        gradients(expected, labels, list(other.parameters())),
    )
    # the training pass has moved the running statistics, if there are any
    close(list(own.state_dict().values()), list(other.state_dict().values()))
    close([own.eval()(images)], [other.eval()(images)])


@pytest.mark.parametrize(("depth", "norm"), [(18, "group"), (34, "batch"), (50, "batch")])
def test_imagenet_resnet_is_torchvisions(depth: int, norm: str) -> None:
    torch.manual_seed(0)
    own = imagenet_resnet((3, 64, 64), CLASSES, depth=depth, norm=norm)
    torch.manual_seed(0)
    other = torchvisions(depth, norm)
    assert list(own.state_dict()) == list(other.state_dict())
    images = batch(2, 3, 64, 64)[0].float()
    assert torch.equal(own(images), other(images))


def test_imagenet_resnet_has_torchvisions_stem_for_other_channels() -> None:
    torch.manual_seed(0)
    stem = imagenet_resnet((1, 64, 64), CLASSES).conv1
    assert isinstance(stem, nn.Conv2d)
    assert stem.weight.shape == (64, 1, 7, 7)
    assert (stem.stride, stem.padding, stem.bias) == ((2, 2), (3, 3), None)
    deviation = (2 / (64 * 7 * 7)) ** 0.5  # He et al., fan out
    assert float(stem.weight.detach().std()) == pytest.approx(deviation, rel=0.1)


def formula(model: nn.Module, norm: str, x: Tensor, depth: int, width: int) -> Tensor:
    """WRN-depth-width of the images x, by functions of the model's tensors one after the other.

    Zagoruyko and Komodakis, arXiv 1605.07146, Table 1 and Figure 1(b); as in their code the
    1 x 1 shortcut takes the activation where the number of channels changes.
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
def test_wide_resnet_is_the_papers(
    depth: int, width: int, shape: tuple[int, int, int], norm: str
) -> None:
    images, labels = batch(3, *shape)
    model = shuffled(WideResNet(shape, CLASSES, depth, width, norm)).train()
    parameters = list(model.parameters())
    expected = formula(model, norm, images, depth, width)
    actual = model(images)
    close([actual], [expected])
    close(gradients(actual, labels, parameters), gradients(expected, labels, parameters))
    model.eval()  # with the running statistics that the training pass has moved
    close([model(images)], [formula(model, norm, images, depth, width)])


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_cnn_is_its_layers_in_order(norm: str) -> None:
    """As older records have it: names, order of the initial draws, and result."""
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
NORM_THERE = "norm must be one of batch, group, got 'none'"
WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Cnn(SMALL, 10, [], "x"), NORM),
    (lambda: ResNet(SMALL, 10, [1, 1, 1, 1], norm="x"), NORM),
    (lambda: ResNet(SMALL, 10, [2, 2]), "blocks must be 4 numbers, one a stage, got [2, 2]"),
    (lambda: ResNet(SMALL, 10, [2, 0, 2, 2]), "blocks must be at least 1, got 0"),
    (lambda: WideResNet(SMALL, 10, 10, 1, "x"), NORM),
    (lambda: WideResNet(SMALL, 10, 26, 1), "depth must be 6k + 4 (10, 16, 22, 28, ...), got 26"),
    (lambda: WideResNet(SMALL, 10, 4, 1), "depth must be at least 10, got 4"),
    (lambda: WideResNet(SMALL, 10, 10, 0), "width must be at least 1, got 0"),
    (lambda: imagenet_resnet(SMALL, 10, 101), "depth must be one of 18, 34, 50, got 101"),
    (lambda: imagenet_resnet(SMALL, 10, 34, "none"), NORM_THERE),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_refuses_what_is_not_allowed(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_torchvision_is_imported_for_its_own_models_alone() -> None:
    code = (
        "import sys; from accelerando.models import WideResNet, ResNet, imagenet_resnet;"
        "ResNet((1, 8, 8), 2, [1, 1, 1, 1]); print('torchvision' in sys.modules);"
        "imagenet_resnet((1, 8, 8), 2); print('torchvision' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"], result.stderr
