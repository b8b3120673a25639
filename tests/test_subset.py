"""The norm estimated from a subset is right on average, and so is its standard error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accelerando.measure import full_gradient
from accelerando.measure.chunks import Chunks, TensorExamples
from accelerando.measure.subset import (
    SubsetGradient,
    split_subset,
    stratified_subset,
    subset_gradient,
)
from small_models import random_examples, tiny_mlp


def estimate(model: nn.Module, images: Tensor, labels: Tensor, subset: Tensor) -> SubsetGradient:
    indices = split_subset(subset, 512, classes=int(labels.max()) + 1, coupled=False)
    chunks = Chunks(TensorExamples(images, labels), indices)
    return subset_gradient(model, chunks, examples=len(labels))


def estimates(model: nn.Module, images: Tensor, labels: Tensor, size: int) -> tuple[Any, Any]:
    """Norms estimated from 60 subsets, and their standard errors."""
    results = [
        estimate(
            model, images, labels, stratified_subset(labels, size, np.random.default_rng(seed))
        )
        for seed in range(60)
    ]
    return np.array([r.norm for r in results]), np.array([r.error for r in results])


def test_a_subset_keeps_the_class_proportions() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    subset = stratified_subset(labels, 33, np.random.default_rng(0))
    assert len(set(subset.tolist())) == 33
    counts = torch.bincount(labels[subset])
    assert (counts - torch.tensor([16.5, 9.9, 6.6])).abs().max() < 1
    with pytest.raises(ValueError, match="subset must be from 2 to 100 examples, got 101"):
        stratified_subset(labels, 101, np.random.default_rng(0))


def test_the_estimate_is_unbiased_and_its_standard_error_is_right() -> None:
    model, (images, labels) = tiny_mlp(), random_examples(600, side=4, classes=3)
    exact = full_gradient(model, images, labels).norm
    norms, errors = estimates(model, images, labels, 200)
    assert norms.mean() == pytest.approx(exact, abs=4 * norms.std() / math.sqrt(60))
    assert 0.6 < math.sqrt(np.mean(errors**2)) / norms.std() < 1.7


def test_the_estimate_from_all_examples_is_exact() -> None:
    model, (images, labels) = tiny_mlp(), random_examples(600, side=4, classes=3)
    result = estimate(model, images, labels, torch.arange(600))
    assert result.norm == pytest.approx(full_gradient(model, images, labels).norm, rel=1e-4)
    assert result.error == 0


def test_the_estimate_is_unbiased_with_many_classes() -> None:
    """Chunks smaller than the number of classes would scatter too much."""
    torch.manual_seed(0)
    classes = 50
    labels = torch.arange(classes).repeat(40)
    images = torch.randn(classes, 16)[labels] * 0.7 + torch.randn(len(labels), 16)
    model = nn.Linear(16, classes)
    exact = full_gradient(model, images, labels).norm
    norms, errors = estimates(model, images, labels, 500)
    assert norms.mean() == pytest.approx(exact, abs=4 * norms.std() / math.sqrt(60))
    assert (np.abs(norms - exact) > 2 * errors).mean() < 0.25
