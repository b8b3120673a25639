"""The batch sampler works in torch's DataLoader."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from accelerando.schedule import BatchSampler, Constant, ExponentialBatch, Plan, Progress, Scheduler


def make_plan() -> Plan:
    sizes = ExponentialBatch(initial=3, growth=2, interval=1)
    return Scheduler(batch_size=sizes, learning_rate=Constant(initial=0.1)).bind(
        examples=20, epochs=3
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_and_prefetching_do_not_change_the_batches(workers: int) -> None:
    plan, data = make_plan(), TensorDataset(torch.arange(20))
    loader = DataLoader(
        data, batch_sampler=BatchSampler(plan, seed=4), num_workers=workers,
        prefetch_factor=4 if workers else None,
    )  # fmt: skip
    batches = [batch.tolist() for (batch,) in loader]
    assert batches == list(BatchSampler(plan, seed=4))
    assert [len(batch) for batch in batches] == [3] * 6 + [2] + [6, 6, 6, 2] + [12, 8]
    assert len(loader) == plan.total_steps


def test_nonexistent_positions_and_ranks_are_rejected() -> None:
    plan = make_plan()
    with pytest.raises(ValueError, match="no step of this plan starts at epoch 1, offset 3"):
        plan.at(1, 3)
    with pytest.raises(ValueError, match="no step"):
        plan.at(4, 0)
    assert plan.at(3, 0) == Progress(3, 0, plan.total_steps)
    assert list(BatchSampler(plan, seed=0, start=plan.at(3, 0))) == []
    with pytest.raises(ValueError, match="rank must be below world_size"):
        BatchSampler(plan, seed=0, rank=2, world_size=2)
