"""The norm estimated from a part of the data: right on average, with an honest error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accelerando.measure import full_gradient
from accelerando.measure.chunks import Chunks, Tensors
from accelerando.measure.subset import SubsetGradient, stratified, subset_chunks, subset_gradient
from test_measure import data, tiny


def estimate(model: nn.Module, images: Tensor, labels: Tensor, subset: Tensor) -> SubsetGradient:
    parts = subset_chunks(subset, 512, classes=int(labels.max()) + 1, coupled=False)
    chunks = Chunks(Tensors(images, labels), parts)
    return subset_gradient(model, chunks, examples=len(labels))


def draws(model: nn.Module, images: Tensor, labels: Tensor, size: int) -> tuple[Any, Any]:
    """Norms from 60 subsets, and their errors."""
    found = [
        estimate(model, images, labels, stratified(labels, size, np.random.default_rng(seed)))
        for seed in range(60)
    ]
    return np.array([f.norm for f in found]), np.array([f.error for f in found])


def test_a_subset_keeps_the_proportions_of_the_classes() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen = stratified(labels, 33, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 33
    counts = torch.bincount(labels[chosen])
    assert (counts - torch.tensor([16.5, 9.9, 6.6])).abs().max() < 1
    with pytest.raises(ValueError, match="subset must be from 2 to 100 examples, got 101"):
        stratified(labels, 101, np.random.default_rng(0))


def test_the_estimate_from_a_subset_is_right_on_average_and_its_error_honest() -> None:
    model, (images, labels) = tiny(), data(600)
    exact = full_gradient(model, images, labels).norm
    norms, errors = draws(model, images, labels, 200)
    assert norms.mean() == pytest.approx(exact, abs=4 * norms.std() / math.sqrt(60))
    assert 0.6 < math.sqrt(np.mean(errors**2)) / norms.std() < 1.7
    everything = estimate(model, images, labels, torch.arange(600))
    assert everything.norm == pytest.approx(exact, rel=1e-4)
    assert everything.error == 0


def test_an_estimate_over_many_classes_is_not_too_small() -> None:
    """Shorter chunks than there are classes would differ in their classes, and scatter more."""
    torch.manual_seed(0)
    classes = 50
    labels = torch.arange(classes).repeat(40)
    images = torch.randn(classes, 16)[labels] * 0.7 + torch.randn(len(labels), 16)
    model = nn.Linear(16, classes)
    exact = full_gradient(model, images, labels).norm
    norms, errors = draws(model, images, labels, 500)
    assert norms.mean() == pytest.approx(exact, abs=4 * norms.std() / math.sqrt(60))
    assert (np.abs(norms - exact) > 2 * errors).mean() < 0.25
