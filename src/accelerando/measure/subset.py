"""An estimate of the full gradient norm from a subset, for when a full pass is too expensive."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from accelerando.data.source import stratified_indices
from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import chunk_gradient, preserve_state
from accelerando.measure.streaming_moments import MIN_CHUNKS as MIN_CHUNKS_FOR_ERROR
from accelerando.measure.streaming_moments import MeanGradient, squared_norms

MIN_CHUNKS = 16
"""Number of chunks from which their scatter is a usable estimate of the error."""


class SubsetGradient(NamedTuple):
    """An estimate of ‖∇f(θ)‖ from m of n examples."""

    norm: float
    error: float
    """Standard error of ``norm``; NaN for fewer than eight chunks. A 95 % interval is norm ± t
    error, with Student's quantile t for (chunks - 1) degrees of freedom (2.1 with 16)."""
    loss: float


def stratified_subset(labels: Tensor, size: int, random: np.random.Generator) -> Tensor:
    """Return the indices of ``size`` examples that keep the class proportions to within one.

    They are those of ``stratified_indices``, for a tensor of labels and on its device.
    Every contiguous range of them that is long enough to contain all classes keeps the proportions
    too. So chunks of the subset scatter like means over stratified samples, and their scatter
    gives the error of the estimate.

    Raises:
        ValueError: ``size`` is below 2 or above the number of examples.
    """
    if not 2 <= size <= len(labels):
        raise ValueError(f"subset must be from 2 to {len(labels)} examples, got {size}")
    return torch.from_numpy(stratified_indices(labels.cpu().numpy(), size, random)).to(
        labels.device
    )


def split_subset(subset: Tensor, chunk: int, *, classes: int, coupled: bool) -> tuple[Tensor, ...]:
    """Split a stratified subset into the chunks in which it is measured.

    As far as ``chunk`` and a minimum of two chunks permit, no chunk is smaller than the number of
    classes: smaller chunks differ in their classes, which makes their scatter and thus the bias
    correction too large.

    Args:
        subset: indices from ``stratified_subset``.
        chunk: at most this many examples per chunk.
        classes: number of classes of the data set.
        coupled: whether BatchNorm uses the statistics of a chunk. The norm then depends on the
            size of the chunks, so they are as large as ``chunk`` permits.
    """
    fewest = -(-len(subset) // chunk)
    if coupled:
        return subset.tensor_split(fewest)
    return subset.tensor_split(max(fewest, 2, min(MIN_CHUNKS, len(subset) // classes)))


def subset_gradient(
    model: nn.Module, chunks: Chunks, *, examples: int, batch_norm: str = "batch"
) -> SubsetGradient:
    """Estimate the full gradient norm over ``examples`` examples from a subset of them.

    With m examples, ‖ĝ‖² exceeds ‖∇f‖² on average by σ²/m (1 - m/n). This bias is subtracted, with
    σ² estimated from the scatter of the chunks. The standard error is that of the mean of the
    chunks' projections onto ĝ (delta method) with the same finite-population factor; it takes a
    second pass over the subset. It leaves out the uncertainty of the subtracted bias and the cut at
    0, so intervals from it are too narrow where σ²/m is not well below ‖∇f‖², as is common late in
    training. If the error is not well below the norm, the subset is too small to resolve the
    gradient: the norm is then often 0, on average too large, and the error is rough.

    Args:
        model: its state is preserved, as by ``full_gradient``.
        chunks: a stratified subset, as split by ``split_subset``.
        examples: n, the size of the complete training set.
        batch_norm: as in ``full_gradient``.

    Raises:
        ValueError: there are fewer than two chunks.
    """
    count = chunks.examples
    unseen = 1 - count / examples
    loss = torch.zeros((), dtype=torch.float64, device=chunks.device)
    with preserve_state(model, batch_norm=batch_norm) as (forward, parameters):
        mean = MeanGradient(parameters, scatter=True)
        for images, labels in chunks:
            gradients, chunk_loss, _ = chunk_gradient(forward, parameters, images, labels)
            mean.add(gradients, len(labels))
            loss += chunk_loss.double() * len(labels) / count
        mean = mean.all_reduce(chunks.team)
        square = float(squared_norms(mean.mean).sum())
        moments = torch.zeros(2, dtype=torch.float64, device=chunks.device)
        for images, labels in chunks:
            gradients, _, _ = chunk_gradient(forward, parameters, images, labels)
            products = [
                (g * m).sum(dtype=torch.float64) for g, m in zip(gradients, mean.mean, strict=True)
            ]
            # relative to the projections' mean ‖ĝ‖², which avoids cancellation
            deviation = torch.stack(products).sum() - square
            moments += torch.stack([deviation, deviation.square()])
        chunks.team.all_reduce([loss, moments])
    number = len(chunks.indices)
    first, second = (moments / number).tolist()
    spread = (max(0.0, second - first**2) / max(1, number - 1)) ** 0.5
    error = spread / max(square**0.5, 1e-300) if number >= MIN_CHUNKS_FOR_ERROR else math.nan
    square -= mean.scatter().variance / count * unseen
    return SubsetGradient(max(square, 0.0) ** 0.5, error * unseen**0.5, float(loss))
