"""The exact gradient norm over the complete training set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accelerando.measure.chunks import DEFAULT_CHUNK, Chunks, TensorExamples, split_into_chunks
from accelerando.measure.preserve_state import chunk_gradient, couples_examples, preserve_state
from accelerando.measure.streaming_moments import LossAccuracy, MeanGradient, squared_norms
from accelerando.torch_adapter import is_single_value_error


@dataclass(frozen=True)
class FullGradient:
    """The results of one pass over the training set; quantities not requested are None."""

    norm: float
    """‖∇f(θ)‖, where f is the mean loss over all examples, each with weight 1/n."""
    loss: float
    """f(θ)."""
    accuracy: float
    """Fraction of examples whose largest output is their label."""
    per_layer: dict[str, float] | None = None
    """Norm of each layer's part of the gradient, by the name of the module."""
    variance: float | None = None
    """σ² = E‖∇f_i(θ) - ∇f(θ)‖², the variance of the per-example gradient."""
    variance_error: float | None = None
    """Standard error of ``variance``; NaN for fewer than eight chunks, and too large with many
    small ones that cover most of the data. A 95 % interval is variance ± t error, with Student's
    quantile t for (chunks - 2) degrees of freedom: 2.45 with 8 chunks, 2.15 with 16. Unlike all
    other values it depends on the number of processes, which changes the order of the chunks."""
    noise_scale: float | None = None
    """σ² / ‖∇f(θ)‖², the simple noise scale (McCandlish et al., arXiv 1812.06162): larger batches
    pay off well below it, and hardly at all well above it."""


def full_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk: int = DEFAULT_CHUNK,
    batch_norm: str = "batch",
    per_layer: bool = False,
    variance: bool = False,
    dtype: torch.dtype | None = None,
    order: Tensor | None = None,
) -> FullGradient:
    """Compute the full gradient norm, empirical loss, accuracy and more in one pass.

    The model is measured in evaluation mode (no dropout), except that BatchNorm uses the
    statistics of each chunk if ``batch_norm`` is "batch". Parameters, their ``grad``, buffers,
    training mode and random states are bitwise unchanged afterwards. Without BatchNorm, norm, loss
    and accuracy do not depend on ``chunk``. In addition to one chunk's activations the pass needs
    memory for two copies of the parameters: the chunk's gradient and the running mean, which is
    kept in float32 or better (and a third copy if ``dtype`` is given).

    Args:
        model: maps images to scores of shape (examples, classes).
        images: in the format the model expects, shape (n, ...).
        labels: int64, shape (n,).
        chunk: at most this many examples per pass, in chunks of equal size to within one example.
        batch_norm: "batch" (statistics of the chunk) or "running" (stored statistics).
        per_layer: also compute the norm of each layer.
        variance: also estimate σ², its standard error and the noise scale from the scatter of the
            chunks' gradients.
        dtype: the precision to compute in; None for that of the parameters. Use torch.float64
            close to a stationary point, where float32 suffers from cancellation; torch.bfloat16
            is fast but rough.
        order: a permutation that determines which examples form a chunk, shape (n,). Default: the
            given order, or a fixed random one for the variance, because chunks of sorted examples
            scatter too much.

    Raises:
        ValueError: an argument is out of range, or the variance cannot be estimated; the message
            says what is allowed.

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
    chunks = split_into_chunks(TensorExamples(images, labels), chunk, order=order)
    with _explained_errors(model, images):
        return full_gradient_of_chunks(
            model, chunks, batch_norm=batch_norm, per_layer=per_layer, variance=variance,
            dtype=dtype,
        )  # fmt: skip


def full_gradient_of_chunks(
    model: nn.Module,
    chunks: Chunks,
    *,
    batch_norm: str = "batch",
    per_layer: bool = False,
    variance: bool = False,
    dtype: torch.dtype | None = None,
) -> FullGradient:
    """Compute ``full_gradient`` over given chunks, together with all processes of their team."""
    if variance and couples_examples(model, batch_norm):
        raise ValueError(
            "the variance is defined for per-example gradients, but BatchNorm couples the "
            'examples of a chunk: use batch_norm="running" if the model has running statistics, '
            "or a model without BatchNorm"
        )
    with (
        _explained_errors(model),
        preserve_state(model, batch_norm=batch_norm, dtype=dtype) as (forward, parameters),
    ):
        mean = MeanGradient(parameters, scatter=variance)
        loss_accuracy = LossAccuracy(chunks.examples)
        for images, labels in chunks:
            gradients, chunk_loss, scores = chunk_gradient(forward, parameters, images, labels)
            mean.add(gradients, len(labels))
            del gradients  # free them before the next chunk computes its own
            loss_accuracy.add(chunk_loss, scores, labels)
        mean = mean.all_reduce(chunks.team)
        loss, accuracy = loss_accuracy.all_reduce(chunks.team, chunks.device)
    squares = squared_norms(mean.mean)
    norm = float(squares.sum().sqrt())
    layers = _by_layer(model, squares.tolist()) if per_layer else None
    if not variance:
        return FullGradient(norm, loss, accuracy, layers)
    scatter, square = mean.scatter(), norm**2
    noise_scale = scatter.variance / square if square > 0 else math.inf
    return FullGradient(norm, loss, accuracy, layers, *scatter, noise_scale)


def _by_layer(model: nn.Module, squares: list[float]) -> dict[str, float]:
    """Combine squared norms of parameters into norms of the modules that own them."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    sums: dict[str, float] = {}
    for name, square in zip(names, squares, strict=True):
        layer = name.rpartition(".")[0]
        sums[layer] = sums.get(layer, 0.0) + square
    return {layer: value**0.5 for layer, value in sums.items()}


@contextmanager
def _explained_errors(model: nn.Module, images: Tensor | None = None) -> Iterator[None]:
    """Raise ValueError for errors of torch that the caller's arguments can avoid.

    ``images`` is None if the caller has not chosen their dtype.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("gradients are not available in torch.inference_mode: measure outside it")
    try:
        yield
    except ValueError as error:
        if not is_single_value_error(error):
            raise
        raise ValueError(
            "BatchNorm needs more than one value per channel, but a chunk has only one: use a "
            'larger chunk, or batch_norm="running"'
        ) from error
    except RuntimeError as error:
        dtypes = {p.dtype for p in model.parameters()}
        if images is None or not images.is_floating_point() or images.dtype in dtypes:
            raise
        raise ValueError(
            f"images are {images.dtype} but the model is {', '.join(map(str, dtypes))}: convert "
            f"one to the other, or pass dtype ({str(error).splitlines()[0]})"
        ) from error
