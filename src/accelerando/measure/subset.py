"""The gradient norm estimated from a part of the training set, where a full pass is too dear."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure.accumulate import MeanGradient
from accelerando.measure.untouched import has_batch_norm, untouched

CHUNKS = 16
"""At least so many chunks, so that their scatter says how good the estimate is."""


class SubsetGradient(NamedTuple):
    """An estimate of ‖∇f(θ)‖ from m of n examples."""

    norm: float
    error: float
    """Standard error of ``norm``."""
    loss: float


def stratified(labels: Tensor, size: int, random: np.random.Generator) -> Tensor:
    """Indices of ``size`` examples, each class in its proportion to within one.

    Any stretch of them has the classes in their proportion too: chunks of it scatter just as means
    over such samples do, so their scatter tells how good the estimate is.

    Raises:
        ValueError: ``size`` is below 2 or above the number of examples.
    """
    classes = labels.cpu().numpy()
    if not 2 <= size <= len(classes):
        raise ValueError(f"subset must be from 2 to {len(classes)} examples, got {size}")
    order = random.permutation(len(classes))
    names, counts = np.unique(classes, return_counts=True)
    exact = counts * size / len(classes)
    quota = np.floor(exact).astype(int)
    # the largest remainders get what is left
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    chosen: list[npt.NDArray[np.int64]] = [
        order[classes[order] == name][:count] for name, count in zip(names, quota, strict=True)
    ]
    evenly = np.concatenate(
        [(np.arange(len(part)) + random.random()) / max(len(part), 1) for part in chosen]
    )
    return torch.from_numpy(np.concatenate(chosen)[np.argsort(evenly)]).to(labels.device)


def subset_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    subset: Tensor,
    *,
    chunk: int,
    batch_norm: str = "batch",
    prepare: Callable[[Tensor], Tensor] | None = None,
    pause: Callable[[], None] | None = None,
) -> SubsetGradient:
    """Estimate the full gradient norm from the examples in ``subset``.

    ‖ĝ‖² of m examples exceeds ‖∇f‖² by the variance σ²/m (1 - m/n) on average: that is taken off,
    where BatchNorm does not keep σ² from being known. The standard error is that of the mean of the
    chunks' projections on ĝ (delta method), with the same finite-population factor; it takes a
    second pass over the subset.
    """
    count, examples = len(subset), len(labels)
    unseen = 1 - count / examples
    parts = subset.tensor_split(min(count, max(CHUNKS, -(-count // chunk))))
    corrected = batch_norm == "running" or not has_batch_norm(model)
    loss = 0.0
    with untouched(model, batch_norm=batch_norm) as (forward, parameters):

        def gradients(part: Tensor) -> tuple[tuple[Tensor, ...], float]:
            if pause is not None:
                pause()
            inputs = images[part] if prepare is None else prepare(images[part])
            value = cross_entropy(forward(inputs), labels[part])
            return torch.autograd.grad(value, parameters), float(value.detach())

        mean = MeanGradient(parameters, scatter=True)
        for part in parts:
            gradient, value = gradients(part)
            mean.add(gradient, len(part))
            loss += value * len(part) / count
        square = float(
            sum(torch.linalg.vector_norm(g, dtype=torch.float64) ** 2 for g in mean.mean)
        )
        projections = [
            float(
                sum(
                    (g * m).sum(dtype=torch.float64)
                    for g, m in zip(gradient, mean.mean, strict=True)
                )
            )
            for part in parts
            for gradient, _ in [gradients(part)]
        ]
    length = square**0.5
    error = float(np.std(projections, ddof=1)) / max(length, 1e-300) / len(parts) ** 0.5
    if corrected:
        square -= mean.scatter().variance / count * unseen
    return SubsetGradient(max(square, 0.0) ** 0.5, error * unseen**0.5, loss)
