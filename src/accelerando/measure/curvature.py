"""The sharpness: the largest eigenvalue of the Hessian, an estimate of the smoothness L."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import DEFAULT_CHUNK, Chunks, TensorExamples, split_into_chunks
from accelerando.measure.preserve_state import preserve_state
from accelerando.torch_adapter import foreach_add_

TOLERANCE = 1e-3
"""Relative tolerance of the eigenvalue; enough for an estimate of L."""


def sharpness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk: int = DEFAULT_CHUNK,
    batch_norm: str = "batch",
    dtype: torch.dtype | None = None,
    order: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Compute the largest (algebraic) eigenvalue of the Hessian of the empirical loss.

    Uses Lanczos iteration (ARPACK through SciPy) on Hessian-vector products, each a pass over all
    examples that differentiates twice. The starting vector is fixed, so the result is
    deterministic: 0 if the Hessian vanishes and NaN if it is not finite. Lanczos iteration
    stores 20 float64 vectors of the size of the parameters. The model's state is preserved.
    ``tolerance`` is relative; the other arguments are those of ``full_gradient``.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: the iteration did not converge.
    """
    examples = TensorExamples(images, labels)
    chunks = split_into_chunks(examples, chunk, order=order)
    return sharpness_of_chunks(
        model, chunks, batch_norm=batch_norm, dtype=dtype, tolerance=tolerance
    )


def sharpness_of_chunks(
    model: nn.Module,
    chunks: Chunks,
    *,
    batch_norm: str = "batch",
    dtype: torch.dtype | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Compute ``sharpness`` over given chunks, together with all processes of their team."""
    examples = chunks.examples
    with preserve_state(model, batch_norm=batch_norm, dtype=dtype) as (forward, parameters):
        sizes = [p.numel() for p in parameters]

        def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            flat = torch.as_tensor(vector.ravel(), dtype=parameters[0].dtype)
            pieces = torch.split(flat.to(chunks.device), sizes)
            direction = [v.view_as(p) for v, p in zip(pieces, parameters, strict=True)]
            total = [torch.zeros_like(p) for p in parameters]
            for inputs, targets in chunks:
                loss = cross_entropy(forward(inputs), targets, reduction="sum") / examples
                first = torch.autograd.grad(
                    loss, parameters, create_graph=True, materialize_grads=True
                )
                # H v is the gradient of ⟨∇f, v⟩; parameters that the loss does not use drop out
                vectors, gradients = zip(
                    *((v, g) for v, g in zip(direction, first, strict=True) if g.requires_grad),
                    strict=True,
                )
                second = torch.autograd.grad(gradients, parameters, vectors, materialize_grads=True)
                foreach_add_(total, second)
            chunks.team.all_reduce(total)
            return torch.cat([t.flatten() for t in total]).double().cpu().numpy()

        size = sum(sizes)
        if size < 3:  # too small for ARPACK
            dense = np.stack([product(column) for column in np.eye(size)])
            return float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1])
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        image = product(start)
        if not image.any():  # a perfect fit; ARPACK fails on a zero matrix
            return 0.0
        if not np.isfinite(image).all():
            return math.nan
        values = eigsh(
            operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False
        )
    return float(values[0])
