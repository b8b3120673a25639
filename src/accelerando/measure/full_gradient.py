"""The full gradient: of the empirical loss over the whole training set, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import CHUNK, Chunks, Tensors, in_chunks
from accelerando.measure.error_hints import explain_errors
from accelerando.measure.preserve_state import Forward, couples_examples, preserve_state
from accelerando.measure.streaming_moments import LossCounter, MeanGradient


@dataclass(frozen=True)
class FullGradient:
    """What one pass over the training set gives; None is what was not asked for."""

    norm: float
    """‖∇f(θ)‖, f the mean loss over all examples, each weighted 1/n."""
    loss: float
    """f(θ)."""
    accuracy: float
    """Share of examples whose largest output is their label."""
    per_layer: dict[str, float] | None = None
    """Norm of each layer's part of the gradient, by the name of the module that holds it."""
    variance: float | None = None
    """σ² = E‖∇f_i(θ) - ∇f(θ)‖², the variance of the per-example gradient."""
    variance_error: float | None = None
    """Standard error of ``variance``: too large where chunks are small, which leave less to
    chance; NaN from two chunks, which cannot tell. Several processes take the chunks in another
    order, so that this, alone, differs with their number."""
    noise_scale: float | None = None
    """σ² / ‖∇f(θ)‖², the simple noise scale (McCandlish et al., arXiv 1812.06162): at batches
    well below it larger ones pay, well above it they hardly do."""


def full_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk: int = CHUNK,
    batch_norm: str = "batch",
    per_layer: bool = False,
    variance: bool = False,
    dtype: torch.dtype | None = None,
    order: Tensor | None = None,
) -> FullGradient:
    """Norm of the full gradient, empirical loss, accuracy and more, in one pass.

    The model is measured in evaluation mode (no dropout), except that BatchNorm uses the
    statistics of each chunk where ``batch_norm`` is "batch". Parameters, their ``grad``, buffers,
    training mode and random states are left bitwise as they were. For a model without BatchNorm
    norm, loss and accuracy do not depend on ``chunk``. Besides one chunk's activations it needs
    two copies of the parameters: the gradient of the chunk and the mean, which is of float32 at
    least (a third for ``dtype``, of the parameters themselves).

    Args:
        model: maps images to scores of shape (examples, classes).
        images: as the model takes them, shape (n, ...).
        labels: int64, shape (n,).
        chunk: at most so many examples at a time, in equal chunks to within one example.
        batch_norm: "batch" (statistics of the chunk) or "running" (stored statistics).
        per_layer: also the norm of every layer.
        variance: also σ², its standard error and the noise scale, from how the chunks' gradients
            scatter.
        dtype: precision to compute in; left out: that of the parameters. Close to a stationary
            point float32 cancels; torch.float64 is for that. torch.bfloat16 is quick and rough.
        order: permutation that composes the chunks, shape (n,). Left out: as they stand, or for
            the variance a fixed random one, since chunks of sorted examples scatter more.

    Raises:
        ValueError: a setting is out of range, or the variance is asked for where it cannot be
            had; the message says what is allowed.

    >>> import torch
    >>> from accelerando.measure import full_gradient
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> images, labels = torch.eye(2), torch.tensor([0, 1])
    >>> result = full_gradient(model, images, labels, chunk=1, per_layer=True, variance=True)
    >>> round(result.norm, 4), round(result.loss, 4), result.accuracy
    (0.5, 0.6931, 0.5)
    >>> round(result.variance, 4), round(result.noise_scale, 4), list(result.per_layer)
    (0.25, 1.0, [''])
    """
    if variance and order is None:
        random = torch.Generator().manual_seed(0)
        order = torch.randperm(len(labels), generator=random).to(labels.device)
    chunks = in_chunks(Tensors(images, labels), chunk, order=order)
    with explain_errors(model, images):
        return full_gradient_over(
            model, chunks, batch_norm=batch_norm, per_layer=per_layer, variance=variance,
            dtype=dtype,
        )  # fmt: skip


def full_gradient_over(
    model: nn.Module,
    chunks: Chunks,
    *,
    batch_norm: str = "batch",
    per_layer: bool = False,
    variance: bool = False,
    dtype: torch.dtype | None = None,
) -> FullGradient:
    """``full_gradient`` of a data set that comes in chunks, over all processes of their team."""
    if variance and couples_examples(model, batch_norm):
        raise ValueError(
            "the variance is that of per-example gradients, and BatchNorm couples the examples of "
            'a chunk: use batch_norm="running" where it has running statistics, or a model '
            "without BatchNorm"
        )
    with (
        explain_errors(model),
        preserve_state(model, batch_norm=batch_norm, dtype=dtype) as (forward, parameters),
    ):
        mean, tally = MeanGradient(parameters, scatter=variance), LossCounter(chunks.examples)
        for inputs, targets in chunks:
            gradients, part_loss, scores = _chunk(forward, parameters, inputs, targets)
            mean.add(gradients, len(targets))
            del gradients  # else they would still be there while the next chunk's are made
            tally.add(part_loss, scores, targets)
        mean = mean.over(chunks.team)
        loss, accuracy = tally.over(chunks.team, chunks.device)
    squares = mean.square()
    norm = float(squares.sum().sqrt())
    scatter = mean.scatter() if variance else None
    return FullGradient(
        norm=norm,
        loss=loss,
        accuracy=accuracy,
        per_layer=_by_layer(model, squares.tolist()) if per_layer else None,
        variance=None if scatter is None else scatter.variance,
        variance_error=None if scatter is None else scatter.error,
        noise_scale=None if scatter is None else _ratio(scatter.variance, norm**2),
    )


def _chunk(
    forward: Forward, parameters: list[Tensor], inputs: Tensor, targets: Tensor
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Gradient of the chunk's mean loss, that loss, and the scores."""
    scores = forward(inputs)
    loss = cross_entropy(scores, targets)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return gradients, loss.detach(), scores.detach()


def _by_layer(model: nn.Module, squares: list[float]) -> dict[str, float]:
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    sums: dict[str, float] = {}
    for name, square in zip(names, squares, strict=True):
        layer = name.rpartition(".")[0]
        sums[layer] = sums.get(layer, 0.0) + square
    return {layer: value**0.5 for layer, value in sums.items()}


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("inf")
