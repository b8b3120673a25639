"""Selecting the device of a run; GPUs are simulated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import SINGLE_PROCESS
from accelerando.training.device import prepare_device
from accelerando.training.processes import spawn_other_ranks


@pytest.mark.parametrize(
    ("name", "local_rank", "shown", "index"),
    [
        ("cuda", 0, 4, 0),
        ("cuda", 3, 4, 3),
        ("cuda", 3, 1, 0),
        ("cuda", 5, 4, 1),
        ("cuda:2", 0, 4, 2),
    ],
)
def test_each_local_rank_gets_its_own_gpu(
    name: str, local_rank: int, shown: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if SLURM shows each task only its own GPU."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: shown)
    # below the checks of torch.cuda.set_device
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert prepare_device(name, 1, local_rank) == torch.device("cuda", index)
    assert chosen == [index]


def test_more_processes_than_gpus_are_rejected(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = settings("hardware=multi_gpu")
    message = r"^hardware\.processes=2 needs .* this machine has 1: set hardware\.processes=1"
    with pytest.raises(UsageError, match=message), spawn_other_ranks(config, SINGLE_PROCESS):
        pass


def test_an_unavailable_device_is_reported() -> None:
    with pytest.raises(UsageError, match=r"^hardware\.device=nothing is not available on this"):
        prepare_device("nothing", 1)
