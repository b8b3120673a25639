"""``accelerando sync`` with the real client: every row of a record arrives once, in order."""

from __future__ import annotations

import io
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from wandb.sdk.wandb_run import Run

from accelerando import entry
from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.launch.pool import Job
from accelerando.launch.sweep import print_summary
from accelerando.launch.sweep_progress import JobOutcome
from accelerando.runs.folder import RunFolder
from accelerando.runs.slurm_record import SlurmRecord
from accelerando.wandb_mirror import mirror
from accelerando.wandb_mirror.mirror import WandbMirror
from helpers import SHORT, after_epoch, forkserver, interrupt, train
from wandb_runs import OFFLINE, Settings, recorded_rows, train_until_sigkill, without_seconds
from wandb_server import WandbServer


def sync(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the command; return the last line that it prints."""
    capsys.readouterr()
    main(["sync", str(folder), *options])
    return capsys.readouterr().out.splitlines()[-1]


def test_interrupted_and_resumed_run_is_sent_completely_and_once(
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
    assert sync(root, capsys) == "1 run: 1 synced"
    (page,) = wandb_server.runs.values()
    assert page.rows == recorded_rows(folder)
    assert (page.summary["status"], page.preempting) == ("interrupted", False)
    page.attributes["notes"] = "written by hand"

    train(config)
    assert len(page.rows) < len(recorded_rows(folder))
    assert sync(root, capsys) == "1 run: 1 synced"
    assert list(wandb_server.runs.values()) == [page]
    assert page.rows == recorded_rows(folder)
    assert page.attributes["notes"] == "written by hand"
    assert (page.summary["status"], page.exitcode) == ("finished", 0)
    state = folder.read_state()
    assert state is not None
    assert state.wandb["url"].endswith(state.wandb["id"])
    assert page.summary["minimum_full_gradient_norm"] == state.full_gradient_norm

    queries = len(wandb_server.queries)
    assert sync(root, capsys) == "1 run: 1 up to date"
    assert len(wandb_server.queries) == queries
    assert sync(folder.path, capsys, "--again") == "1 run: 1 synced"
    assert page.rows == recorded_rows(folder)
    files = list(folder.path.glob("wandb/*offline-run-*/*.wandb"))
    assert len(files) == 2
    assert all(file.with_suffix(".wandb.synced").exists() for file in files)
    assert page.content("wandb-events.jsonl") == []  # no system metrics of this machine


@pytest.mark.usefixtures("wandb_server")
def test_sync_command_is_suggested_until_the_run_is_synced(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end of a run and of a sweep."""
    config = settings(*OFFLINE)
    train(config)
    folder = RunFolder(run_folder(config))

    def wandb_lines() -> list[str]:
        console, state = Console(file=io.StringIO(), width=500), folder.read_state()
        assert state is not None
        entry._print_summary(config, state, console)
        job = Job("a run", folder.path, lambda: None)
        print_summary([(job, JobOutcome(state.status, ""))], console, root=config.root)
        return re.findall(r"^W&B +(.*)$", console.file.getvalue(), re.MULTILINE)

    assert wandb_lines() == [f"accelerando sync {folder.path}", f"accelerando sync {config.root}"]
    sync(folder.path, capsys)
    (url,) = wandb_lines()
    assert url.startswith("http")


def test_killed_run_is_sent_up_to_its_last_row(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*OFFLINE, "checkpoint.seconds=0")
    process = forkserver().Process(target=train_until_sigkill, args=(config,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = RunFolder(run_folder(config))
    assert sync(folder.path, capsys) == "1 run: 1 synced"
    (page,) = wandb_server.runs.values()
    assert page.rows == recorded_rows(folder)
    assert (page.summary["status"], page.exitcode) == ("lost", 1)
    train(config)
    assert sync(folder.path, capsys) == "1 run: 1 synced"
    assert list(wandb_server.runs.values()) == [page]
    assert without_seconds(page.rows) == without_seconds(recorded_rows(folder))


def test_sync_continues_where_the_server_went_down(
    settings: Settings,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    config = settings(*OFFLINE)
    train(config)
    folder, log = RunFolder(run_folder(config)), WandbMirror.log

    def stop_server_after_five_rows(self: WandbMirror, row: dict[str, object]) -> None:
        log(self, row)
        if self.rows == 5:
            wandb_server.stop()

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(WandbMirror, "log", stop_server_after_five_rows)
        main(["sync", config.root])
    out, errors = capsys.readouterr()
    assert "some rows were not sent; rerun the same command to send the rest" in out
    assert out.splitlines()[-1] == "1 run: 1 failed"
    assert "Traceback" not in out + errors
    wandb_server.start()
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT")
    assert sync(Path(config.root), capsys) == "1 run: 1 synced"
    (page,) = wandb_server.runs.values()
    assert page.rows == recorded_rows(folder)


def test_finished_run_given_to_a_sweep_fails_if_rows_are_missing(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(*SHORT))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    monkeypatch.setenv("WANDB_RUN_ID", "run0")
    monkeypatch.setattr(mirror, "ARRIVAL_TIMEOUT", 0)
    wandb_server.reject_rows = True
    with pytest.raises(UsageError, match="some rows were not sent"):
        train(settings(*SHORT, "tracking=online"))


def test_corrupt_runs_do_not_block_the_others(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for seed in range(4):
        config = settings(*OFFLINE, f"seed={seed}")
        train(config)
        folders.append(RunFolder(run_folder(config)))
    corrupt_record, missing_config, corrupt_state, intact = sorted(
        folders, key=lambda folder: folder.path
    )
    corrupt_record.record.write_text("{\n")
    missing_config.config.unlink()
    corrupt_state.state.write_text("{")
    queued = Path(config.root) / "digits-mlp" / "warmup_increase" / "seed9-0"
    SlurmRecord(job="7", output="", job_starts_run=True).write(queued)
    with pytest.raises(SystemExit) as stopped:
        main(["sync", config.root])
    assert stopped.value.code == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "5 runs: 3 corrupt, 1 synced, 1 not started"
    assert f"{corrupt_record.record} is corrupt" in out
    assert f"{missing_config.config} is missing or corrupt" in out
    assert f"{corrupt_state.state} cannot be read" in out
    (page,) = wandb_server.runs.values()
    assert page.rows == recorded_rows(intact)


def test_runs_that_cannot_be_sent_do_not_block_the_others(
    settings: Settings,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configs = [settings(*OFFLINE, f"seed={seed}") for seed in range(3)]
    configs.append(settings(*OFFLINE, "seed=3", "tracking.entity=theirs"))
    for config in configs:
        train(config)
    failing, locked, intact, rejected = (RunFolder(run_folder(config)) for config in configs)
    log = Run.log

    def fail_for_one_run(self: Run, row: dict[str, Any]) -> None:
        if failing.path.name in self.dir:
            raise ConnectionResetError("wandb-core is gone")
        log(self, row)

    monkeypatch.setattr(Run, "log", fail_for_one_run)
    with locked.locked(print), pytest.raises(SystemExit) as stopped:
        main(["sync", configs[0].root])
    assert stopped.value.code == 1
    *out, summary = capsys.readouterr().out.splitlines()
    assert sorted(summary.removeprefix("4 runs: ").split(", ")) == [
        "1 still running", "1 synced", "2 failed"
    ]  # fmt: skip
    for folder, message in (
        (failing, "some rows were not sent"),
        (locked, "is locked by process"),
        (rejected, "W&B rejected the run: "),
    ):
        assert any(folder.path.name in line and message in line for line in out)
    pages = {run.attributes["displayName"]: run.rows for run in wandb_server.runs.values()}
    assert pages["warmup_increase-seed2"] == recorded_rows(intact)
    # the client does not reuse the run that it could not close
    assert pages.get("warmup_increase-seed0", []) == []


def test_divergence_sends_one_alert_over_several_syncs(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*OFFLINE, "scheduler.learning_rate.initial=1e20")
    train(config)
    for _ in range(2):
        assert sync(Path(config.root), capsys, "--again") == "1 run: 1 synced"
    (page,) = wandb_server.runs.values()
    assert len(page.alerts) == 1


def test_untracked_runs_are_sent_only_on_request(
    settings: Settings, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*SHORT)
    train(config)
    root = Path(config.root)
    assert sync(root, capsys) == "1 run: 1 skipped (tracking=disabled)"
    assert wandb_server.runs == {}
    assert sync(root, capsys, "--untracked") == "1 run: 1 synced"
    (page,) = wandb_server.runs.values()
    assert page.rows == recorded_rows(RunFolder(run_folder(config)))
    assert page.attributes["displayName"] == "warmup_increase-seed0"


def test_missing_login_is_one_error(
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
