"""Choosing the mode, and servers that are down, slow or refuse a run."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from accelerando.wandb_mirror import client, mirror
from helpers import ROOT, after_epoch, interrupt, start_process, train, wait_for
from wandb_runs import ONLINE, Settings, recorded_rows
from wandb_server import KEY, WandbServer


def test_auto_mode_is_offline_without_a_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert client.resolve_mode("auto") == "offline"
    assert client.resolve_mode("online") == "online"


@pytest.mark.parametrize(
    ("value", "mode"), [("dryrun", "offline"), ("run", "online"), ("disabled", "disabled")]
)
def test_auto_mode_follows_wandb_mode(
    value: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", value)
    assert client.resolve_mode("auto") == mode


def test_all_rows_arrive_after_a_server_outage(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*ONLINE, "epochs=4")
    after_epoch(1, wandb_server.stop, monkeypatch)
    after_epoch(3, wandb_server.start, monkeypatch)
    state = train(config)
    page = wandb_server.runs[state.wandb["id"]]
    assert page.rows == recorded_rows(RunFolder(run_folder(config)))
    assert page.exitcode == 0


def test_run_finishes_when_the_server_stays_down(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    config, output = settings(*ONLINE), io.StringIO()
    after_epoch(1, wandb_server.stop, monkeypatch)
    state = run(config, [], Console(file=output, width=500))
    assert state is not None
    assert state.status == "finished"
    assert "synced" not in state.wandb
    assert "W&B failed (Timed out finishing run.)" in output.getvalue()
    assert "accelerando sync" in output.getvalue()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_signals_end_the_wait_for_a_silent_server(
    signals: list[signal.Signals], tmp_path: Path, wandb_server: WandbServer
) -> None:
    wandb_server.delay = 1000
    process = start_process(
        [sys.executable, str(ROOT / "train.py"), *ONLINE, f"root={tmp_path}/runs"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: any(tmp_path.glob("runs/*/*/*/wandb/run-*")))
    time.sleep(1)
    signalled = time.monotonic()
    for number in signals:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - signalled < 45  # W&B itself would wait 90 seconds
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    (path,) = tmp_path.glob("runs/*/*/*/state.json")
    assert json.loads(path.read_text())["message"] == f"by {signals[0].name}"


def test_rows_rejected_by_the_server_are_sent_by_a_later_sync(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client only warns in the terminal, and closes the run as if nothing had happened."""
    config, output = settings(*ONLINE), io.StringIO()
    monkeypatch.setattr(mirror, "ARRIVAL_TIMEOUT", 0)
    after_epoch(1, lambda: setattr(wandb_server, "reject_rows", True), monkeypatch)
    state = run(config, [], Console(file=output, width=500))
    assert state is not None
    assert state.status == "finished"
    page = wandb_server.runs[state.wandb["id"]]
    recorded = recorded_rows(RunFolder(run_folder(config)))
    assert len(page.rows) < len(recorded)
    assert f"the server has {len(page.rows)} of {len(recorded)} rows" in output.getvalue()
    with pytest.raises(SystemExit):
        main(["sync", config.root])
    wandb_server.reject_rows = False
    main(["sync", config.root])
    assert page.rows == recorded
    assert (page.summary["status"], page.exitcode) == ("finished", 0)


def test_job_near_its_time_limit_does_not_wait_for_a_server_that_is_down(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM warns it ``signal_delay_s`` before its end, and it must requeue itself before that."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    delay = 16.0
    monkeypatch.setattr(client, "FINISH_TIMEOUT", delay)
    interrupted_at = []

    def stop_server_and_interrupt() -> None:
        wandb_server.stop()
        interrupted_at.append(time.monotonic())
        interrupt()

    after_epoch(1, stop_server_and_interrupt, monkeypatch)
    with pytest.raises(Interrupted):
        train(settings(*ONLINE))
    assert time.monotonic() - interrupted_at[0] < delay


def test_run_deleted_on_the_server_is_uploaded_under_a_new_id(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    config = settings(*ONLINE)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(1, interrupt, patched)
        train(config)
    (deleted,) = wandb_server.runs
    wandb_server.deleted.add(deleted)
    del wandb_server.runs[deleted]
    state = train(config)
    assert state.wandb["id"] != deleted
    page = wandb_server.runs[state.wandb["id"]]
    assert page.rows == recorded_rows(RunFolder(run_folder(config)))
    assert page.attributes["displayName"] == "warmup_increase-seed0"


@pytest.mark.usefixtures("wandb_server")
def test_errors_are_one_line_with_a_remedy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"permission denied.*tracking\.entity") as rejected:
        train(settings(*ONLINE, "tracking.entity=theirs"))
    assert "\n" not in str(rejected.value)
    monkeypatch.setattr(wandb, "__version__", "0.16.1")
    with pytest.raises(UsageError, match=r"wandb 0\.16\.1 is too old: pip install --upgrade"):
        train(settings(*ONLINE, "seed=1"))
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(UsageError, match="WANDB_MODE=sometimes is not a valid mode"):
        client.resolve_mode("auto")


def test_api_key_is_written_nowhere(
    settings: Settings, wandb_server: WandbServer, tmp_path: Path
) -> None:
    """Neither to the run folder, including the client's files and logs, nor to the server."""
    state = train(settings(*ONLINE))
    page = wandb_server.runs[state.wandb["id"]]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    sent = json.dumps([page.attributes, page.config, page.lines]).encode()
    assert KEY.encode() not in b"".join([sent, *page.files.values()])
