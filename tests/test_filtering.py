"""Which runs are compared, and which differences between them are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.compare.filtering import check_comparable, completed_runs, select_runs
from synthetic_runs import load, write_run

NORMS = [1.0, 0.5, 0.2]


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [("yardstick", "measure.chunk", 64), ("data", "dataset.name", "mnist"),
     ("model", "model.name", "cnn"), ("budget", "epochs", 9),
     ("optimizer", "optimizer.momentum", 0.9), ("arithmetic", "precision", "bf16")],
)  # fmt: skip
def test_differences_in_shared_settings_are_refused_unless_allowed(
    tmp_path: Path, kind: str, setting: str, value: object
) -> None:
    write_run(tmp_path, NORMS)
    write_run(tmp_path, NORMS, seed=1, settings={setting: value})
    runs = load(tmp_path)
    with pytest.raises(UsageError, match=rf"{kind}: {setting} is .* or .*--mix {kind}"):
        check_comparable(runs)
    check_comparable(runs, mix=[kind])
    check_comparable(runs, by=[setting])
    check_comparable(select_runs(runs, [f"{setting}={value}"]))


@pytest.mark.parametrize(
    ("setting", "values"),
    [("hardware.sync_batch_norm", (False, True)), ("hardware.micro_batch", (None, 64))],
)
def test_hardware_settings_matter_with_batch_norm_only(
    tmp_path: Path, setting: str, values: tuple[object, object]
) -> None:
    for norm in ("none", "batch"):
        for value in values:
            write_run(tmp_path / norm, NORMS, settings={"model.norm": norm, setting: value})
    check_comparable(load(tmp_path / "none"))
    with pytest.raises(UsageError, match=f"arithmetic: {setting}"):
        check_comparable(load(tmp_path / "batch"))


def test_where_accepts_several_values(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path, NORMS, seed=seed, settings={"model.widths": [8, seed]})
    runs = load(tmp_path)
    assert [run.state.seed for run in select_runs(runs, ["seed=1,3"])] == [1, 3]
    assert [run.state.seed for run in select_runs(runs, ["model.widths=[8, 2]"])] == [2]
    assert select_runs(runs, ["model.name=@x"]) == select_runs(runs, ["model.name={"]) == []
    assert len(select_runs(runs, ["model.name=@x,mlp"])) == 4
    with pytest.raises(UsageError, match="no run has a setting sed; did you mean seed"):
        select_runs(runs, ["sed=1"])
    with pytest.raises(UsageError, match="use NAME=VALUE"):
        select_runs(runs, ["seed"])


def test_incomplete_runs_are_excluded_with_the_reason(tmp_path: Path) -> None:
    write_run(tmp_path, NORMS)
    write_run(tmp_path, NORMS, seed=1, status="diverged", message="the loss is nan")
    write_run(tmp_path, NORMS, seed=2, status="interrupted", epoch=1)
    write_run(tmp_path, [None, None, None], seed=3)
    write_run(tmp_path, [None, None, None], seed=4, status="diverged")
    completed, excluded = completed_runs(load(tmp_path))
    assert [(run.state.seed, run.failed) for run in completed] == [
        (0, ""),
        (1, "diverged"),
        (4, "diverged"),
    ]
    assert sorted(run.reason for run in excluded) == [
        "interrupted (1 of 2 epochs)", "no finite norm measured",
    ]  # fmt: skip
