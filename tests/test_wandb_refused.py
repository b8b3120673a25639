"""Online runs whose server is away, is slow to answer, refuses, or has lost them."""

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
from test_wandb import rows
from test_wandb_online import ONLINE, Settings
from wandb_server import KEY, WandbServer


def test_the_server_may_stop_and_start(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first epoch, back after the third: all rows are there, each once."""
    config = settings(*ONLINE, "epochs=4")
    after_epoch(1, wandb_server.stop, monkeypatch)
    after_epoch(3, wandb_server.start, monkeypatch)
    state = train(config)
    shown = wandb_server.runs[state.wandb["id"]]
    assert shown.rows == rows(RunFolder(run_folder(config)))
    assert shown.exitcode == 0


def test_a_server_that_stays_away_does_not_hold_the_run(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    config, said = settings(*ONLINE), io.StringIO()
    after_epoch(1, wandb_server.stop, monkeypatch)
    state = run(config, [], Console(file=said, width=500))
    assert state is not None
    assert state.status == "finished"
    assert "synced" not in state.wandb
    assert "W&B failed (Timed out finishing run.)" in said.getvalue()
    assert "accelerando sync" in said.getvalue()


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_is_heeded_while_the_server_does_not_answer(
    numbers: list[signal.Signals], tmp_path: Path, wandb_server: WandbServer
) -> None:
    wandb_server.delay = 1000
    process = start_process(
        [sys.executable, str(ROOT / "train.py"), *ONLINE, f"root={tmp_path}/runs"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: any(tmp_path.glob("runs/*/*/*/wandb/run-*")))
    time.sleep(1)
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 20  # of the 90 seconds that W&B waits
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    (path,) = tmp_path.glob("runs/*/*/*/state.json")
    assert json.loads(path.read_text())["message"] == f"by {numbers[0].name}"


def test_rows_that_the_server_refused_are_sent_later(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client warns in the terminal, goes on, and closes the run as if all was well."""
    config, said = settings(*ONLINE), io.StringIO()
    monkeypatch.setattr(mirror, "ARRIVAL_TIMEOUT", 0)
    after_epoch(1, lambda: setattr(wandb_server, "refusing", True), monkeypatch)
    state = run(config, [], Console(file=said, width=500))
    assert state is not None
    assert state.status == "finished"
    shown, made = wandb_server.runs[state.wandb["id"]], rows(RunFolder(run_folder(config)))
    assert len(shown.rows) < len(made)
    assert f"the server has {len(shown.rows)} of {len(made)} rows" in said.getvalue()
    with pytest.raises(SystemExit):
        main(["sync", config.root])
    wandb_server.refusing = False
    main(["sync", config.root])
    assert shown.rows == made
    assert (shown.summary["status"], shown.exitcode) == ("finished", 0)


def test_a_job_that_is_out_of_time_does_not_wait_for_a_server_that_is_away(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told ``signal_delay_s`` before its end, and has to ask to be put back before that."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    delay = 16.0
    monkeypatch.setattr(client, "FINISH_TIMEOUT", delay)

    def out_of_time() -> None:
        wandb_server.stop()
        told.append(time.monotonic())
        interrupt()

    told: list[float] = []
    after_epoch(1, out_of_time, monkeypatch)
    with pytest.raises(Interrupted):
        train(settings(*ONLINE))
    assert time.monotonic() - told[0] < delay


def test_a_run_deleted_on_the_server_is_sent_again(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    config = settings(*ONLINE)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(1, interrupt, patched)
        train(config)
    (first,) = wandb_server.runs
    wandb_server.deleted.add(first)
    del wandb_server.runs[first]
    state = train(config)
    assert state.wandb["id"] != first
    shown = wandb_server.runs[state.wandb["id"]]
    assert shown.rows == rows(RunFolder(run_folder(config)))
    assert shown.about["displayName"] == "warmup_increase-seed0"


@pytest.mark.usefixtures("wandb_server")
def test_refusals_are_told_in_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"permission denied.*tracking\.entity") as refused:
        train(settings(*ONLINE, "tracking.entity=theirs"))
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(wandb, "__version__", "0.16.1")
    with pytest.raises(UsageError, match=r"wandb 0\.16\.1 is too old: pip install --upgrade"):
        train(settings(*ONLINE, "seed=1"))
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(UsageError, match="WANDB_MODE=sometimes is not a valid mode"):
        client.resolve_mode("auto")


def test_no_file_holds_the_key(
    settings: Settings, wandb_server: WandbServer, tmp_path: Path
) -> None:
    """Not in the run's folder, the client's files and logs, or what the server was sent."""
    state = train(settings(*ONLINE))
    shown = wandb_server.runs[state.wandb["id"]]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    sent = json.dumps([shown.about, shown.config, shown.lines]).encode()
    assert KEY.encode() not in b"".join([sent, *shown.files.values()])
