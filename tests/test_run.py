"""Complete runs on real digits: their records, reproducibility and final states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from helpers import SHORT, identical, train

Settings = Callable[..., RunSettings]


def test_the_same_seed_gives_the_same_record(settings: Settings, tmp_path: Path) -> None:
    one = settings(*SHORT, "model=cnn_bn")
    two = settings(*SHORT, "model=cnn_bn", f"root={tmp_path}/again")
    other = settings(*SHORT, "model=cnn_bn", "seed=1")
    for config in (one, two, other):
        train(config)
    folders = [RunFolder(run_folder(config)) for config in (one, two, other)]
    assert identical(folders[0], folders[1])
    assert not identical(folders[0], folders[2])


def test_a_finished_run_is_skipped(settings: Settings) -> None:
    config = settings(*SHORT)
    train(config)
    folder = RunFolder(run_folder(config))
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    assert train(config).status == "finished"
    assert before == {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}


def test_an_unknown_device_is_rejected_before_a_folder_is_created(settings: Settings) -> None:
    config = settings("hardware.device=abacus")
    with pytest.raises(UsageError, match=r"hardware\.device=abacus is not available"):
        train(config)
    assert not Path(config.root).exists()
