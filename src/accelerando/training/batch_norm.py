"""BatchNorm whose statistics cover a batch that is split over several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accelerando.checks import UsageError
from accelerando.config import HardwareSettings
from accelerando.distributed import Team
from accelerando.measure.preserve_state import rejects_single_example
from accelerando.schedule import Plan


def smallest_micro_batch(batch_size: int, processes: int, micro_batch: int | None) -> int:
    """Return the fewest examples that any of the ``processes`` passes through the model at once.

    >>> smallest_micro_batch(9, 2, None), smallest_micro_batch(3, 1, 2)
    (4, 1)
    """
    shares = {batch_size // processes, -(-batch_size // processes)} - {0}
    return min(share // (-(-share // (micro_batch or share))) for share in shares)


def check_batches(
    plan: Plan, hardware: HardwareSettings, model: nn.Module, shape: Sequence[int]
) -> None:
    """Check that BatchNorm sees more than one value per channel in every pass of a run.

    ``model`` may be on the meta device; ``shape`` is that of an image.

    Raises:
        UsageError: some pass would see a single value, which has no variance.
    """
    n = plan.examples
    # synchronised statistics cover the complete batch
    processes = 1 if hardware.sync_batch_norm else hardware.processes
    for size in map(int, np.unique(plan.batch_sizes)):
        for batch_size in {size, n % size or size}:
            single = smallest_micro_batch(batch_size, processes, hardware.micro_batch) == 1
            if single and rejects_single_example(model, shape):
                raise UsageError(
                    "BatchNorm needs more than one value per channel, but with batches of "
                    f"{size} of {n} examples it would see a single example with 1 x 1 feature "
                    "maps: change the batch size, dataset.examples, hardware.processes or "
                    "hardware.micro_batch, or use model.norm=group"
                )


class SyncBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the statistics of a batch that is split over several processes.

    Unlike torch.nn.SyncBatchNorm it works on every device, and synchronises only inside
    ``synchronized_statistics``: elsewhere, for example in measurements, the layer is an ordinary
    ``nn.BatchNorm2d``.
    """

    global_batch: tuple[Team, int] | None = None
    """The processes that share a batch, and its size."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or self.global_batch is None:
            return super().forward(images)
        team, batch_size = self.global_batch
        # computed rather than summed over the processes, which would wait for the device
        count = batch_size * images.shape[2] * images.shape[3]
        if count < 2:
            raise ValueError("BatchNorm needs more than 1 value per channel, got a batch of one")
        sums = images.float().sum((0, 2, 3))
        mean = _AllReduce.apply(sums, team) / count
        centred = images.float() - mean.view(1, -1, 1, 1)
        variance = _AllReduce.apply(centred.square().sum((0, 2, 3)), team) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        result: Tensor = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return result.to(images.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _AllReduce(torch.autograd.Function):
    """Sum over the processes of a team, in the forward and in the backward pass."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, team: Team) -> Tensor:
        context.team = team
        tensor = tensor.clone()
        team.all_reduce([tensor])
        return tensor

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone()
        context.team.all_reduce([gradient])
        return gradient, None


@contextmanager
def synchronized_statistics(
    layers: Sequence[SyncBatchNorm2d], team: Team, batch_size: int
) -> Iterator[None]:
    """Let ``layers`` use the statistics of a batch of ``batch_size`` examples over ``team``."""
    for layer in layers:
        layer.global_batch = (team, batch_size) if team.world_size > 1 else None
    try:
        yield
    finally:
        for layer in layers:
            layer.global_batch = None


def convert_sync_batch_norm(model: nn.Module) -> None:
    """Replace every ``nn.BatchNorm2d`` in ``model`` by a ``SyncBatchNorm2d`` with its tensors."""
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            with torch.device("meta"):
                layer = SyncBatchNorm2d(module.num_features, module.eps, module.momentum)
            layer.load_state_dict(module.state_dict(), assign=True)
            layer.train(module.training)
            setattr(model, name, layer)
        else:
            convert_sync_batch_norm(module)
