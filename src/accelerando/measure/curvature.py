"""The sharpness: the largest eigenvalue of the Hessian, an estimate of the smoothness L."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import CHUNK, Chunks, Tensors, in_chunks
from accelerando.measure.preserve_state import preserve_state

TOLERANCE = 1e-3
"""Relative; an estimate of L needs no more."""


def sharpness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk: int = CHUNK,
    batch_norm: str = "batch",
    dtype: torch.dtype | None = None,
    order: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Largest (algebraic) eigenvalue of the Hessian of the empirical loss.

    By Lanczos iteration (ARPACK, through SciPy) on Hessian-vector products, each a pass over the
    whole set that differentiates twice. The arguments are those of ``full_gradient``, and the model
    is left as it was just so. It starts from a fixed vector: the same call gives the same number.
    It is 0 where the Hessian vanishes and NaN where it is not finite. Lanczos keeps 20 vectors as
    long as the parameters, in float64.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: it did not converge.
    """
    chunks = in_chunks(Tensors(images, labels), chunk, order=order)
    return sharpness_over(model, chunks, batch_norm=batch_norm, dtype=dtype, tolerance=tolerance)


def sharpness_over(
    model: nn.Module,
    chunks: Chunks,
    *,
    batch_norm: str = "batch",
    dtype: torch.dtype | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """``sharpness`` of a data set that comes in chunks, over all processes of their team."""
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
                # the Hessian times v is the gradient of ⟨∇f, v⟩; an unused parameter has no part
                along, used = zip(
                    *((v, g) for v, g in zip(direction, first, strict=True) if g.requires_grad),
                    strict=True,
                )
                second = torch.autograd.grad(used, parameters, along, materialize_grads=True)
                torch._foreach_add_(total, second)
            chunks.team.all_reduce(total)
            return torch.cat([t.flatten() for t in total]).double().cpu().numpy()

        size = sum(sizes)
        if size < 3:  # ARPACK wants more dimensions than that
            dense = np.stack([product(column) for column in np.eye(size)])
            return float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1])
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        first = product(start)
        if not first.any():  # every example fits exactly: ARPACK cannot do with that
            return 0.0
        if not np.isfinite(first).all():
            return math.nan
        values = eigsh(
            operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False
        )
    return float(values[0])
