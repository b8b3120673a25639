"""What torch says of a measurement that cannot be made, in the words of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def explain_errors(model: nn.Module, images: Tensor | None = None) -> Iterator[None]:
    """Within it torch's errors that a setting of the caller's would avoid name that setting.

    Args:
        model: what is measured.
        images: as the caller gave them, where their type is the caller's affair.

    Raises:
        ValueError: what to do is in the message.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("there are no gradients in torch.inference_mode: measure outside of it")
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "BatchNorm has no statistics of a chunk of one value per channel: make chunk larger, "
            'or use batch_norm="running"'
        ) from error
    except RuntimeError as error:
        kinds = {p.dtype for p in model.parameters()}
        if images is None or not images.is_floating_point() or images.dtype in kinds:
            raise
        raise ValueError(
            f"images are {images.dtype} and the model is {', '.join(map(str, kinds))}: "
            f"convert one to the other, or give dtype ({str(error).splitlines()[0]})"
        ) from error
