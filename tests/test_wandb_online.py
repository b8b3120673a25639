"""Online runs: the real client against a test double of the server, stopped and started."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from wandb.sdk.lib.run_stopping import RunStopChecker

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.tracking import wandb_client, wandb_mirror
from accelerando.tracking.folder import RunFolder
from accelerando.training import loop
from accelerando.training.run import run
from conftest import ROOT, begin, forkserver
from test_command import wait_for
from test_run import SHORT, train
from test_wandb import killed, rows
from wandb_server import KEY, WandbServer

Settings = Callable[..., DictConfig]
ONLINE = (*SHORT, "tracking=online")


def at_epoch(epoch: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something once the measurement after an epoch is recorded."""
    original = loop.Loop._measure

    def measure(self: loop.Loop) -> None:
        original(self)
        if self._position.epoch == epoch:
            act()

    monkeypatch.setattr(loop.Loop, "_measure", measure)


def interrupt() -> None:
    raise Interrupted("SIGTERM")


def test_a_run_looks_made_by_hand(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.1")
    more = ("tracking.thresholds=[0.5,0.2,1e-9]", "tracking.tags=[mine]", "tracking.project=theirs")
    config = settings(*ONLINE, *more)
    state = run(config, ["model=mlp", "epochs=3"], Console(quiet=True))
    assert state is not None
    shown, folder = wandb_server.runs[state.wandb["id"]], RunFolder(run_folder(config))
    assert state.wandb["id"].startswith(f"{state.run}-")
    assert state.wandb["url"].endswith(f"/someone/theirs/runs/{state.wandb['id']}")
    about = shown.about
    assert about["displayName"] == "warmup_increase-seed0"
    assert (about["groupName"], about["jobType"]) == ("warmup_increase", "train")
    assert about["notes"] == "python train.py model=mlp epochs=3"
    assert about["tags"] == ["digits", "mlp", "warmup_increase", "case iv", "mine"]
    top = {key: shown.config[key] for key in ("dataset", "model", "scheduler", "seed", "run_id")}
    assert list(top.values()) == ["digits", "mlp", "warmup_increase", 0, state.run]
    assert shown.config["commit"] == state.environment["commit"]
    assert shown.config["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config))
    assert shown.rows == rows(folder)
    record = [row for row in rows(folder) if "full_gradient_norm" in row]
    norms = [row["full_gradient_norm"] for row in record]
    first = next(row for row in record if row["full_gradient_norm"] <= 0.5)
    summary = shown.summary
    assert summary["minimum_full_gradient_norm"] == min(norms)
    assert summary["last_test_accuracy"] == record[-1]["test_accuracy"]
    assert summary["best_test_accuracy"] == max(row["test_accuracy"] for row in record)
    assert summary["steps_to_norm_0_5"] == first["step"]
    assert summary["examples_to_norm_0_5"] == first["examples"]
    assert "steps_to_norm_1e-09" not in summary
    assert (summary["status"], shown.exitcode) == ("finished", 0)
    assert {"wandb-metadata.json", "requirements.txt"} <= set(shown.files)
    assert any("system.cpu" in line for line in shown.content("wandb-events.jsonl"))


def test_whatever_is_measured_has_an_axis(settings: Settings, wandb_server: WandbServer) -> None:
    """And the summary has its last value under its bare name, where a sweep looks for it."""
    more = ("variance", "per_layer", "published")
    config = settings(
        *ONLINE, *(f"measure.{name}=true" for name in more), "measure.sharpness_epochs=[1]"
    )
    shown = wandb_server.runs[train(config).wandb["id"]]
    # by the client's own keys: a name, a pattern of names, the place of the axis, options
    defined = shown.config["_wandb"]["m"]
    assert {about["1"] for about in defined if 2 in about["6"]} == {"epoch", "step", "examples"}
    axes = {
        about.get("1", about.get("2")): defined[about["5"] - 1]["1"]
        for about in defined
        if "5" in about
    }
    of_steps = dict.fromkeys(("train_loss", "batch_size", "learning_rate"), "step")
    assert axes == {"*": "epoch", **of_steps}
    last = dict(item for row in shown.rows for item in row.items())
    assert {"published_gradient_norm", "noise_scale", "layer_norms", "sharpness"} <= set(last)
    assert {name: shown.summary[name] for name in last} == last


def test_divergence_is_alerted(settings: Settings, wandb_server: WandbServer) -> None:
    config = settings(*ONLINE, "scheduler.learning_rate.initial=1e20")
    state = train(config)
    shown = wandb_server.runs[state.wandb["id"]]
    assert shown.rows == rows(RunFolder(run_folder(config)))
    assert shown.rows[-1]["train_loss"] is None
    assert state.status == "diverged"
    (alert,) = shown.alerts
    assert alert["severity"] == "ERROR"
    assert state.message in alert["text"]
    assert shown.summary["status"] == "diverged"


def test_interrupted_by_slurm_it_is_preempted_and_goes_on(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*ONLINE)
    folder = RunFolder(run_folder(config))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        at_epoch(2, interrupt, patched)
        train(config)
    (shown,) = wandb_server.runs.values()
    assert (shown.preempting, shown.exitcode) == (True, 75)
    assert shown.summary["status"] == "interrupted"
    shown.about["displayName"] = "renamed by hand"
    train(config)
    assert list(wandb_server.runs.values()) == [shown]
    assert shown.rows == rows(folder)
    assert (shown.preempting, shown.exitcode) == (False, 0)
    assert shown.about["displayName"] == "renamed by hand"


def killed_there(config: DictConfig, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # that of the forkserver is older
    killed(config)


def test_a_killed_run_goes_on_as_one(settings: Settings, wandb_server: WandbServer) -> None:
    config = settings(*ONLINE, "checkpoint.seconds=0")
    process = forkserver().Process(target=killed_there, args=(config, wandb_server.environment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(config)
    (shown,) = wandb_server.runs.values()
    found, made = shown.rows, rows(RunFolder(run_folder(config)))
    for row in found + made:
        del row["seconds"]  # some were made twice
    assert found == made


def test_a_run_keeps_the_rows_that_it_began_with(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B has more rows than a checkpoint, and knows them by their number alone."""
    config = settings(*ONLINE)
    folder = RunFolder(run_folder(config))
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        at_epoch(2, interrupt, patched)
        train(config)
    for checkpoint in folder.path.glob("checkpoint*.pt"):
        checkpoint.unlink()
    said = io.StringIO()
    run(settings(*ONLINE, "tracking.every=3"), [], Console(file=said, width=500))
    assert "note: tracking.every stays at 10, with which the run began" in said.getvalue()
    (shown,) = wandb_server.runs.values()
    found, made = shown.rows, rows(folder)
    for row in found + made:
        del row["seconds"]  # some were made twice
    assert found == made


def test_interrupted_by_hand_it_is_not(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        at_epoch(1, interrupt, monkeypatch)
        train(settings(*ONLINE))
    (shown,) = wandb_server.runs.values()
    assert (shown.preempting, shown.exitcode) == (False, 255)


def test_stopped_on_its_page_it_is_not_wanted_back(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a sweep's early termination stopped it: it would be handed back again and again."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setitem(RunStopChecker.__init__.__kwdefaults__, "poll_interval", 0.2)
    wandb_server.stopped = True
    with pytest.raises(Interrupted):
        train(settings(*ONLINE, "epochs=5000"))
    (shown,) = wandb_server.runs.values()
    assert (shown.preempting, shown.exitcode) == (False, 255)


def test_the_server_may_stop_and_start(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first epoch, back after the third: all rows are there, each once."""
    config = settings(*ONLINE, "epochs=4")
    at_epoch(1, wandb_server.stop, monkeypatch)
    at_epoch(3, wandb_server.start, monkeypatch)
    state = train(config)
    shown = wandb_server.runs[state.wandb["id"]]
    assert shown.rows == rows(RunFolder(run_folder(config)))
    assert shown.exitcode == 0


def test_a_server_that_stays_away_does_not_hold_the_run(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    config, said = settings(*ONLINE), io.StringIO()
    at_epoch(1, wandb_server.stop, monkeypatch)
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
    process = begin(
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
    monkeypatch.setattr(wandb_mirror, "ARRIVAL", 0)
    at_epoch(1, lambda: setattr(wandb_server, "refusing", True), monkeypatch)
    state = run(config, [], Console(file=said, width=500))
    assert state is not None
    assert state.status == "finished"
    shown, made = wandb_server.runs[state.wandb["id"]], rows(RunFolder(run_folder(config)))
    assert len(shown.rows) < len(made)
    assert f"it has {len(shown.rows)} of {len(made)} rows); the record is complete" in (
        said.getvalue()
    )
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
    monkeypatch.setattr(wandb_client, "LAST_UPLOAD", delay)

    def out_of_time() -> None:
        wandb_server.stop()
        told.append(time.monotonic())
        interrupt()

    told: list[float] = []
    at_epoch(1, out_of_time, monkeypatch)
    with pytest.raises(Interrupted):
        train(settings(*ONLINE))
    assert time.monotonic() - told[0] < delay


def test_a_run_deleted_on_the_server_is_sent_again(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    config = settings(*ONLINE)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        at_epoch(1, interrupt, patched)
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
    with pytest.raises(UsageError, match="WANDB_MODE=sometimes is no mode: set it to online"):
        wandb_client.resolve_mode("auto")


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
