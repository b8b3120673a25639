"""Online runs: the real client against a test double of the server, stopped and started."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from wandb.sdk.lib.run_stopping import RunStopChecker

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from helpers import SHORT, after_epoch, forkserver, interrupt, train
from test_wandb import killed, rows
from wandb_server import WandbServer

Settings = Callable[..., RunSettings]
ONLINE = (*SHORT, "tracking=online")


def test_a_run_looks_made_by_hand(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.1")
    after_epoch(2, lambda: time.sleep(2), monkeypatch)  # or it ends before the machine is looked at
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
        after_epoch(2, interrupt, patched)
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


def killed_there(config: RunSettings, environment: dict[str, str]) -> None:
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
        after_epoch(2, interrupt, patched)
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
        after_epoch(1, interrupt, monkeypatch)
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
