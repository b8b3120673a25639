"""The gradient of the augmented loss against autograd in float64 and against simulation."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.measure.augmented import augmented_gradient
from accelerando.measure.chunks import TensorExamples, split_into_chunks
from accelerando.models import Mlp
from accelerando.runs.folder import RunFolder
from accelerando.validation import check_settings
from helpers import SHORT, read_rows, train
from small_models import random_examples

Settings = Callable[..., RunSettings]
AUGMENTATION = (
    "+dataset.augmentation._target_=accelerando.data.augmentation.Augmentation",
    "+dataset.augmentation.crop=1",
)


def flat_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    model = copy.deepcopy(model).double()
    loss = cross_entropy(model(images.double()), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def noisy(images: Tensor, labels: Tensor, seed: int) -> TensorExamples:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return TensorExamples(images + 0.5 * noise, labels)


def test_norm_and_error_equal_their_definition_in_float64() -> None:
    images, labels = random_examples(30, side=4, classes=3)
    model = Mlp((1, 4, 4), 3, [5])
    examples = [noisy(images, labels, seed) for seed in range(4)]
    draws = [split_into_chunks(draw, 8) for draw in examples]
    estimate = augmented_gradient(model, draws)
    gradients = torch.stack([flat_gradient(model, d.images, labels) for d in examples])
    mean = gradients.mean(0)
    variance = float(gradients.var(0).sum())
    assert estimate.norm**2 == pytest.approx(float(mean.square().sum()) - variance / 4, rel=1e-4)
    projections = gradients @ mean / mean.norm()
    assert estimate.error == pytest.approx(float(projections.std()) / 2, rel=1e-3)


def test_estimate_is_unbiased_and_its_error_is_right() -> None:
    """Over repeated draws, against the norm from very many of them."""
    images, labels = random_examples(40, side=4, classes=3)
    model = Mlp((1, 4, 4), 3, [5])
    many = torch.stack(
        [
            flat_gradient(model, noisy(images, labels, 10_000 + s).images, labels)
            for s in range(2000)
        ]
    )
    truth = float(many.mean(0).norm())
    estimates = [
        augmented_gradient(
            model,
            [split_into_chunks(noisy(images, labels, 8 * trial + k), 40) for k in range(8)],
        )
        for trial in range(150)
    ]
    norms = np.array([e.norm for e in estimates])
    errors = np.array([e.error for e in estimates])
    assert abs((norms**2).mean() - truth**2) < 4 * (norms**2).std() / 150**0.5
    student = 2.365  # 97.5 % quantile for 7 degrees of freedom
    assert 0.89 < (abs(norms - truth) <= student * errors).mean() <= 1


def test_a_run_measures_fixed_draws(settings: Settings) -> None:
    config = settings(*SHORT, *AUGMENTATION, "measure.augmented=3")
    train(config)
    for row in read_rows(RunFolder(run_folder(config)).record):
        assert 0 < row["augmented_gradient_norm_error"] < row["augmented_gradient_norm"]
        assert row["augmented_loss"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["measure.augmented=3"], "measure.augmented needs a data set with augmentation"),
        ([*AUGMENTATION, "measure.augmented=1"], "measure.augmented must be at least 2, got 1"),
    ],
)
def test_impossible_settings_are_rejected(
    overrides: list[str], message: str, settings: Settings
) -> None:
    with pytest.raises(UsageError, match=message):
        check_settings(settings(*overrides))


def test_fewer_than_two_draws_are_rejected() -> None:
    images, labels = random_examples(8, side=4, classes=3)
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        augmented_gradient(
            Mlp((1, 4, 4), 3, [5]), [split_into_chunks(TensorExamples(images, labels), 8)]
        )
