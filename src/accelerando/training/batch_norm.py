"""BatchNorm over the whole batch, of which each process of a team holds a share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accelerando.checks import UsageError
from accelerando.config import HardwareSettings
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.measure.preserve_state import rejects_single_example
from accelerando.schedule import Plan

_team, _examples = SINGLE_PROCESS, 0
"""Whose batch it is; outside of a step statistics are those of what one process passes."""


@contextmanager
def over_team(team: Team, examples: int) -> Iterator[None]:
    """Within it ``TeamBatchNorm2d`` uses the statistics of the team's whole batch, so large."""
    global _team, _examples
    _team, _examples = team, examples
    try:
        yield
    finally:
        _team, _examples = SINGLE_PROCESS, 0


def smallest_micro_batch(examples: int, processes: int, micro_batch: int | None) -> int:
    """Least number of examples that any process passes at once, of a batch of so many.

    >>> smallest_micro_batch(9, 2, None), smallest_micro_batch(3, 1, 2), smallest_micro_batch(3, 4, None)
    (4, 1, 1)
    """
    shares = {examples // processes, -(-examples // processes)} - {0}
    return min(share // (-(-share // (micro_batch or share))) for share in shares)


def check_batches(
    plan: Plan, hardware: HardwareSettings, model: nn.Module, shape: Sequence[int]
) -> None:
    """Check that BatchNorm meets more than one value in each part of every batch.

    Args:
        plan: the schedule.
        hardware: the group ``hardware`` of the run.
        model: on any device, meta too.
        shape: of an image.

    Raises:
        UsageError: it would meet one alone, which has no variance.
    """
    n = plan.examples
    # synchronised statistics are those of the whole batch
    world_size = 1 if hardware.sync_batch_norm else hardware.processes
    for size in map(int, np.unique(plan.batch_sizes)):
        for count in {size, n % size or size}:
            single = smallest_micro_batch(count, world_size, hardware.micro_batch) == 1
            if single and rejects_single_example(model, shape):
                raise UsageError(
                    "BatchNorm has no variance of the one value in a feature map of a single "
                    f"example, which batches of {size} of {n} examples come to: set another "
                    "batch size, dataset.examples, hardware.processes or hardware.micro_batch, "
                    "or model.norm=group"
                )


class TeamBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, in a step over all processes of a team, on any device.

    torch.nn.SyncBatchNorm is for GPUs alone, and synchronises measurements too.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or _team.world_size == 1:
            return super().forward(images)
        # known without asking the others, or waiting for the device
        count = _examples * images.shape[2] * images.shape[3]
        if count < 2:
            raise ValueError("BatchNorm needs more than one value per channel: a batch of one")
        sums = images.float().sum((0, 2, 3))
        mean = _Total.apply(sums, _team) / count
        centred = images.float() - mean.view(1, -1, 1, 1)
        variance = _Total.apply(centred.square().sum((0, 2, 3)), _team) / count
        self._move_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        result: Tensor = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return result.to(images.dtype)

    @torch.no_grad()
    def _move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Total(torch.autograd.Function):
    """Sum over the team; so is its gradient."""

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


def convert_sync_batch_norm(model: nn.Module) -> None:
    """Put ``TeamBatchNorm2d`` in the place of every BatchNorm layer of ``model``."""
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            with torch.device("meta"):
                layer = TeamBatchNorm2d(module.num_features, module.eps, module.momentum)
            layer.load_state_dict(module.state_dict(), assign=True)
            layer.train(module.training)
            setattr(model, name, layer)
        else:
            convert_sync_batch_norm(module)
