"""The device of a run, as far as it can be chosen without having it."""

from __future__ import annotations

import pytest
import torch

from accelerando.checks import UsageError
from accelerando.training.device import prepare_device


@pytest.mark.parametrize(
    ("name", "local_rank", "index"), [("cuda", 0, 0), ("cuda", 3, 3), ("cuda:2", 0, 2)]
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    name: str, local_rank: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    # below torch's own checks of what it is given
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert prepare_device(name, 1, local_rank) == torch.device("cuda", index)
    assert chosen == [index]


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match=r"^hardware\.device=nothing cannot be used on this"):
        prepare_device("nothing", 1)
