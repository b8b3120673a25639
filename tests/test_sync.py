"""``accelerando sync`` with the real client: every row of the record once, in order."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from wandb.sdk.wandb_run import Run

from accelerando import entry
from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.launch.pool import Job
from accelerando.launch.sweep import print_summary
from accelerando.launch.sweep_progress import JobOutcome
from accelerando.runs.folder import RunFolder
from accelerando.runs.slurm_record import SlurmRecord
from accelerando.wandb_mirror import mirror as mirror_module
from accelerando.wandb_mirror.mirror import WandbMirror
from helpers import SHORT, after_epoch, forkserver, interrupt, train
from test_wandb import killed, rows
from wandb_server import WandbServer

Settings = Callable[..., RunSettings]
OFFLINE = (*SHORT, "tracking=offline")


def timeless(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def synced(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What the command says last."""
    capsys.readouterr()
    main(["sync", str(folder), *options])
    return capsys.readouterr().out.splitlines()[-1]


def test_interrupted_and_continued_runs_are_sent_whole_and_once(
    settings: Settings,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.1")
    config = settings(*OFFLINE)
    folder, root = RunFolder(run_folder(config)), Path(config.root)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(1, interrupt, patched)
        train(config)
    assert synced(root, capsys) == "1 run: 1 synced"
    (shown,) = wandb_server.runs.values()
    assert shown.rows == rows(folder)
    assert (shown.summary["status"], shown.preempting) == ("interrupted", False)
    shown.about["notes"] = "written by hand"

    train(config)
    assert wandb_server.runs[next(iter(wandb_server.runs))] is shown
    assert len(shown.rows) < len(rows(folder))
    assert synced(root, capsys) == "1 run: 1 synced"
    assert list(wandb_server.runs.values()) == [shown]
    assert shown.rows == rows(folder)
    assert shown.about["notes"] == "written by hand"
    assert (shown.summary["status"], shown.exitcode) == ("finished", 0)
    state = folder.read_state()
    assert state is not None
    assert state.wandb["url"].endswith(state.wandb["id"])
    assert shown.summary["minimum_full_gradient_norm"] == state.full_gradient_norm

    asked = len(wandb_server.asked)
    assert synced(root, capsys) == "1 run: 1 up to date"
    assert len(wandb_server.asked) == asked
    assert synced(folder.path, capsys, "--again") == "1 run: 1 synced"
    assert shown.rows == rows(folder)
    files = list(folder.path.glob("wandb/*offline-run-*/*.wandb"))
    assert len(files) == 2
    assert all(file.with_suffix(".wandb.synced").exists() for file in files)
    assert shown.content("wandb-events.jsonl") == []  # what this machine does is not the run's


@pytest.mark.usefixtures("wandb_server")
def test_the_command_is_named_until_it_was_given(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end of a run, and of a sweep."""
    config = settings(*OFFLINE)
    train(config)
    folder = RunFolder(run_folder(config))

    def said() -> list[str]:
        console, state = Console(file=io.StringIO(), width=500), folder.read_state()
        assert state is not None
        entry._conclude(config, state, console)
        job = Job("a run", folder.path, lambda: None)
        print_summary([(job, JobOutcome(state.status, ""))], console, root=config.root)
        return re.findall(r"^W&B +(.*)$", console.file.getvalue(), re.MULTILINE)

    assert said() == [f"accelerando sync {folder.path}", f"accelerando sync {config.root}"]
    synced(folder.path, capsys)
    (page,) = said()
    assert page.startswith("http")


def test_a_killed_run_is_sent_as_far_as_it_came(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*OFFLINE, "checkpoint.seconds=0")
    process = forkserver().Process(target=killed, args=(config,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = RunFolder(run_folder(config))
    assert synced(folder.path, capsys) == "1 run: 1 synced"
    (shown,) = wandb_server.runs.values()
    assert shown.rows == rows(folder)
    assert (shown.summary["status"], shown.exitcode) == ("lost", 1)
    train(config)
    assert synced(folder.path, capsys) == "1 run: 1 synced"
    assert list(wandb_server.runs.values()) == [shown]
    assert timeless(shown.rows) == timeless(rows(folder))  # some were made a second time


def test_it_goes_on_where_the_server_went_away(
    settings: Settings,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    config = settings(*OFFLINE)
    train(config)
    folder, log = RunFolder(run_folder(config)), WandbMirror.log

    def breaks(self: WandbMirror, row: dict[str, object]) -> None:
        log(self, row)
        if self.rows == 5:
            wandb_server.stop()

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(WandbMirror, "log", breaks)
        main(["sync", config.root])
    out, errors = capsys.readouterr()
    assert "some rows were not sent; rerun the same command to send the rest" in out
    assert out.splitlines()[-1] == "1 run: 1 failed"
    assert "Traceback" not in out + errors
    wandb_server.start()
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT")
    assert synced(Path(config.root), capsys) == "1 run: 1 synced"
    (shown,) = wandb_server.runs.values()
    assert shown.rows == rows(folder)


def test_a_sweep_that_did_not_get_all_rows_is_told(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(*SHORT))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    monkeypatch.setenv("WANDB_RUN_ID", "run0")
    monkeypatch.setattr(mirror_module, "ARRIVAL_TIMEOUT", 0)
    wandb_server.refusing = True
    with pytest.raises(UsageError, match="some rows were not sent"):
        train(settings(*SHORT, "tracking=online"))


def test_a_damaged_run_does_not_hold_up_the_others(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for seed in range(4):
        config = settings(*OFFLINE, f"seed={seed}")
        train(config)
        folders.append(RunFolder(run_folder(config)))
    first, second, third, last = sorted(folders, key=lambda folder: folder.path)
    first.record.write_text("{\n")
    second.config.unlink()
    third.state.write_text("{")
    SlurmRecord(job="7", output="", starts_it=True).write(
        Path(config.root) / "one" / "that" / "waits"
    )
    with pytest.raises(SystemExit) as left:
        main(["sync", config.root])
    assert left.value.code == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "5 runs: 3 corrupt, 1 synced, 1 not started"
    assert f"{first.record} is corrupt" in out
    assert f"{second.config} is missing or corrupt" in out
    assert f"{third.state} cannot be read" in out
    (shown,) = wandb_server.runs.values()
    assert shown.rows == rows(last)


def test_a_run_that_cannot_be_sent_does_not_hold_up_the_others(
    settings: Settings,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that W&B refuses, one that another process works on, one whose rows do not arrive."""
    configs = [settings(*OFFLINE, f"seed={seed}") for seed in range(3)]
    configs.append(settings(*OFFLINE, "seed=3", "tracking.entity=theirs"))
    for config in configs:
        train(config)
    lost, held, last, refused = (RunFolder(run_folder(config)) for config in configs)
    log, own = Run.log, f"{lost.path.name}"

    def breaks(self: Run, row: dict[str, Any]) -> None:
        if self.dir.find(own) >= 0:
            raise ConnectionResetError("wandb-core is gone")
        log(self, row)

    monkeypatch.setattr(Run, "log", breaks)
    with held.locked(print), pytest.raises(SystemExit) as left:
        main(["sync", configs[0].root])
    assert left.value.code == 1
    *out, counts = capsys.readouterr().out.splitlines()
    assert sorted(counts.removeprefix("4 runs: ").split(", ")) == [
        "1 still running", "1 synced", "2 failed"
    ]  # fmt: skip
    for folder, words in (
        (lost, "some rows were not sent"),
        (held, "is locked by process"),
        (refused, "W&B rejected the run: "),
    ):
        assert any(folder.path.name in line and words in line for line in out)
    made = {run.about["displayName"]: run.rows for run in wandb_server.runs.values()}
    assert made["warmup_increase-seed2"] == rows(last)
    # one that was not closed is not taken for the next
    assert made.get("warmup_increase-seed0", []) == []


def test_divergence_is_told_once(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*OFFLINE, "scheduler.learning_rate.initial=1e20")
    train(config)
    for _ in range(2):
        assert synced(Path(config.root), capsys, "--again") == "1 run: 1 synced"
    (shown,) = wandb_server.runs.values()
    assert len(shown.alerts) == 1


def test_what_was_not_tracked_is_left_out_unless_asked_for(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*SHORT)
    train(config)
    root = Path(config.root)
    assert synced(root, capsys) == "1 run: 1 skipped (tracking=disabled)"
    assert wandb_server.runs == {}
    assert synced(root, capsys, "--untracked") == "1 run: 1 synced"
    (shown,) = wandb_server.runs.values()
    assert shown.rows == rows(RunFolder(run_folder(config)))
    assert shown.about["displayName"] == "warmup_increase-seed0"


def test_without_a_login_it_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    config = settings(*OFFLINE)
    train(config)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", config.root)
    monkeypatch.setenv("NETRC", f"{config.root}/none")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()
    with pytest.raises(SystemExit):
        main(["sync", config.root])
    wandb.teardown()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: W&B rejected the run: ")
    assert "wandb login" in line
