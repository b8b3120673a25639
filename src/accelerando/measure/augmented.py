"""The gradient norm of the augmented training loss, which SGD on augmented images minimises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import chunk_gradient, preserve_state
from accelerando.measure.streaming_moments import MeanGradient


class AugmentedGradient(NamedTuple):
    """The results of passes over several augmentations of the training set."""

    norm: float
    """Estimate of ‖∇f(θ)‖, where f is the expected loss over augmentations, averaged over all
    training examples."""
    error: float
    """Standard error of ``norm`` due to the finite number of draws K, without the uncertainty of
    the subtracted bias. A 95 % interval is norm ± t error, with Student's quantile t for K - 1
    degrees of freedom."""
    loss: float


def augmented_gradient(
    model: nn.Module, draws: Sequence[Chunks], *, batch_norm: str = "batch"
) -> AugmentedGradient:
    """Estimate the gradient norm of the augmented empirical loss from K draws.

    Let g_k be the gradient over the complete training set in draw k, ḡ their mean and
    v = Σ ‖g_k - ḡ‖² / (K - 1). Since E‖ḡ‖² = ‖∇f‖² + v/K, v/K is subtracted. The standard error is
    that of the mean of the projections g_k·ḡ/‖ḡ‖. Memory: K + 1 copies of the parameters.

    Args:
        model: its state is preserved, as by ``full_gradient``.
        draws: the training set as augmented in each draw, at least two.
        batch_norm: as in ``full_gradient``.

    Raises:
        ValueError: there are fewer than two draws.
    """
    if len(draws) < 2:
        raise ValueError(f"the augmented gradient needs at least 2 draws, got {len(draws)}")
    gradients: list[Tensor] = []
    total_loss = 0.0
    with preserve_state(model, batch_norm=batch_norm) as (forward, parameters):
        for chunks in draws:
            mean = MeanGradient(parameters, scatter=False)
            loss = torch.zeros((), dtype=torch.float64, device=chunks.device)
            for images, labels in chunks:
                chunk, chunk_loss, _ = chunk_gradient(forward, parameters, images, labels)
                mean.add(chunk, len(labels))
                loss += chunk_loss.double() * len(labels) / chunks.examples
            chunks.team.all_reduce([loss])
            gradients.append(torch.cat([m.flatten() for m in mean.all_reduce(chunks.team).mean]))
            total_loss += float(loss)
    stacked = torch.stack(gradients)
    center = stacked.mean(0)
    square = float(center.square().sum(dtype=torch.float64))
    number = len(draws)
    deviations = stacked - center
    variance = float(deviations.square().sum(dtype=torch.float64)) / (number - 1)
    projections = (deviations * center).sum(1, dtype=torch.float64)
    error = float(projections.std()) / number**0.5 / max(square**0.5, 1e-300)
    return AugmentedGradient(
        max(square - variance / number, 0.0) ** 0.5, error, total_loss / number
    )
