"""The gradient norm estimated from a part of the training set, where a full pass is too dear."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.data.source import stratified_indices
from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import preserve_state
from accelerando.measure.streaming_moments import MeanGradient

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

    Any stretch of them that is long enough to hold every class has the classes in their proportion
    too: chunks of it scatter just as means over such samples do, so their scatter tells how good
    the estimate is.

    Raises:
        ValueError: ``size`` is below 2 or above the number of examples.
    """
    if not 2 <= size <= len(labels):
        raise ValueError(f"subset must be from 2 to {len(labels)} examples, got {size}")
    return torch.from_numpy(stratified_indices(labels.cpu().numpy(), size, random)).to(
        labels.device
    )


def subset_chunks(subset: Tensor, chunk: int, *, classes: int, coupled: bool) -> tuple[Tensor, ...]:
    """The chunks that a subset is measured in.

    None is shorter than the number of classes, as far as ``chunk`` and two chunks at least permit:
    shorter ones differ in their classes, scatter more than the whole, and too much is taken off.

    Args:
        subset: indices, as ``stratified`` gives them.
        chunk: at most so many examples at a time.
        classes: of the data.
        coupled: BatchNorm uses the statistics of a chunk. Smaller ones are another yardstick, so
            there are no more of them than need be.
    """
    fewest = -(-len(subset) // chunk)
    if coupled:
        return subset.tensor_split(fewest)
    return subset.tensor_split(max(fewest, 2, min(CHUNKS, len(subset) // classes)))


def subset_gradient(
    model: nn.Module, chunks: Chunks, *, examples: int, batch_norm: str = "batch"
) -> SubsetGradient:
    """Estimate the full gradient norm over ``examples`` examples from some of them.

    ‖ĝ‖² of m examples exceeds ‖∇f‖² by the variance σ²/m (1 - m/n) on average: that is taken off,
    σ² from how the chunks scatter. The standard error is that of the mean of the chunks'
    projections on ĝ (delta method), with the same finite-population factor; it takes a second pass
    over the subset. Where it is not well below the norm, so few examples do not show the gradient:
    then the norm is often 0, on average too large, and the error itself is rough.

    Args:
        model: left as it was, as by ``full_gradient``.
        chunks: those of a stratified subset, as ``subset_chunks`` makes them.
        examples: n, of the whole training set.
        batch_norm: as in ``full_gradient``.

    Raises:
        ValueError: fewer than two chunks.
    """
    count = chunks.examples
    unseen = 1 - count / examples
    loss = torch.zeros((), dtype=torch.float64, device=chunks.device)
    with preserve_state(model, batch_norm=batch_norm) as (forward, parameters):

        def gradient(inputs: Tensor, targets: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            value = cross_entropy(forward(inputs), targets)
            found = torch.autograd.grad(value, parameters, materialize_grads=True)
            return found, value.detach().double()

        mean = MeanGradient(parameters, scatter=True)
        for inputs, targets in chunks:
            found, value = gradient(inputs, targets)
            mean.add(found, len(targets))
            loss += value * len(targets) / count
        mean = mean.over(chunks.team)
        square = float(mean.square().sum())
        moments = torch.zeros(2, dtype=torch.float64, device=chunks.device)
        for inputs, targets in chunks:
            found, _ = gradient(inputs, targets)
            products = [
                (g * m).sum(dtype=torch.float64) for g, m in zip(found, mean.mean, strict=True)
            ]
            # around its mean, ‖ĝ‖², so that nothing cancels
            distance = torch.stack(products).sum() - square
            moments += torch.stack([distance, distance.square()])
        chunks.team.all_reduce([loss, moments])
    first, second = (moments / len(chunks.parts)).tolist()
    spread = (max(0.0, second - first**2) / max(1, len(chunks.parts) - 1)) ** 0.5
    error = spread / max(square**0.5, 1e-300)
    square -= mean.scatter().variance / count * unseen
    return SubsetGradient(max(square, 0.0) ** 0.5, error * unseen**0.5, float(loss))
