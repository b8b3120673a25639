"""The W&B mirror online: the real client against a local test server."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from wandb.sdk.lib.run_stopping import RunStopChecker

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from helpers import after_epoch, forkserver, interrupt, train
from wandb_runs import ONLINE, Settings, recorded_rows, train_until_sigkill, without_seconds
from wandb_server import WandbServer


def test_run_page_shows_config_rows_summary_and_system_metrics(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.1")
    after_epoch(2, lambda: time.sleep(2), monkeypatch)  # leave time to sample system metrics
    config = settings(
        *ONLINE,
        "tracking.thresholds=[0.5,0.2,1e-9]",
        "tracking.tags=[mine]",
        "tracking.project=theirs",
    )
    state = run(config, ["model=mlp", "epochs=3"], Console(quiet=True))
    assert state is not None
    page, folder = wandb_server.runs[state.wandb["id"]], RunFolder(run_folder(config))
    assert state.wandb["id"].startswith(f"{state.run}-")
    assert state.wandb["url"].endswith(f"/someone/theirs/runs/{state.wandb['id']}")
    attributes = page.attributes
    assert attributes["displayName"] == "warmup_increase-seed0"
    assert (attributes["groupName"], attributes["jobType"]) == ("warmup_increase", "train")
    assert attributes["notes"] == "python train.py model=mlp epochs=3"
    assert attributes["tags"] == ["digits", "mlp", "warmup_increase", "case iv", "mine"]
    keys = {key: page.config[key] for key in ("dataset", "model", "scheduler", "seed", "run_id")}
    assert list(keys.values()) == ["digits", "mlp", "warmup_increase", 0, state.run]
    assert page.config["commit"] == state.environment["commit"]
    assert page.config["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config))
    assert page.rows == recorded_rows(folder)
    record = [row for row in recorded_rows(folder) if "full_gradient_norm" in row]
    norms = [row["full_gradient_norm"] for row in record]
    first_below = next(row for row in record if row["full_gradient_norm"] <= 0.5)
    summary = page.summary
    assert summary["minimum_full_gradient_norm"] == min(norms)
    assert summary["last_test_accuracy"] == record[-1]["test_accuracy"]
    assert summary["best_test_accuracy"] == max(row["test_accuracy"] for row in record)
    assert summary["steps_to_norm_0_5"] == first_below["step"]
    assert summary["examples_to_norm_0_5"] == first_below["examples"]
    assert "steps_to_norm_1e-09" not in summary
    assert (summary["status"], page.exitcode) == ("finished", 0)
    assert {"wandb-metadata.json", "requirements.txt"} <= set(page.files)
    assert any("system.cpu" in line for line in page.content("wandb-events.jsonl"))


def test_every_metric_has_an_axis_and_a_summary_value(
    settings: Settings, wandb_server: WandbServer
) -> None:
    """A sweep looks up the last value of its metric in the summary, under the plain name."""
    config = settings(
        *ONLINE,
        "measure.variance=true",
        "measure.chunk=150",  # its error needs eight chunks
        "measure.per_layer=true",
        "measure.published=true",
        "measure.sharpness_epochs=[1]",
    )
    page = wandb_server.runs[train(config).wandb["id"]]
    # the client's keys: 1 name, 2 glob pattern, 5 index of the axis, 6 options
    metrics = page.config["_wandb"]["m"]
    assert {metric["1"] for metric in metrics if 2 in metric["6"]} == {"epoch", "step", "examples"}
    axes = {
        metric.get("1", metric.get("2")): metrics[metric["5"] - 1]["1"]
        for metric in metrics
        if "5" in metric
    }
    step_metrics = dict.fromkeys(("train_loss", "batch_size", "learning_rate"), "step")
    assert axes == {"*": "epoch", **step_metrics}
    last = dict(item for row in page.rows for item in row.items())
    assert {"paper_gradient_norm", "noise_scale", "layer_norms", "sharpness"} <= set(last)
    assert {name: page.summary[name] for name in last} == last


def test_divergence_sends_an_alert(settings: Settings, wandb_server: WandbServer) -> None:
    config = settings(*ONLINE, "scheduler.learning_rate.initial=1e20")
    state = train(config)
    page = wandb_server.runs[state.wandb["id"]]
    assert page.rows == recorded_rows(RunFolder(run_folder(config)))
    assert page.rows[-1]["train_loss"] is None
    assert state.status == "diverged"
    (alert,) = page.alerts
    assert alert["severity"] == "ERROR"
    assert state.message in alert["text"]
    assert page.summary["status"] == "diverged"


def test_run_interrupted_in_a_slurm_job_is_marked_preempting_and_resumes(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*ONLINE)
    folder = RunFolder(run_folder(config))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(2, interrupt, patched)
        train(config)
    (page,) = wandb_server.runs.values()
    assert (page.preempting, page.exitcode) == (True, 75)
    assert page.summary["status"] == "interrupted"
    page.attributes["displayName"] = "renamed by hand"
    train(config)
    assert list(wandb_server.runs.values()) == [page]
    assert page.rows == recorded_rows(folder)
    assert (page.preempting, page.exitcode) == (False, 0)
    assert page.attributes["displayName"] == "renamed by hand"


def train_online_until_sigkill(config: RunSettings, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # the forkserver was started before the test server
    train_until_sigkill(config)


def test_run_killed_by_sigkill_resumes_as_the_same_wandb_run(
    settings: Settings, wandb_server: WandbServer
) -> None:
    config = settings(*ONLINE, "checkpoint.seconds=0")
    process = forkserver().Process(
        target=train_online_until_sigkill, args=(config, wandb_server.environment)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(config)
    (page,) = wandb_server.runs.values()
    recorded = recorded_rows(RunFolder(run_folder(config)))
    assert without_seconds(page.rows) == without_seconds(recorded)


def test_row_interval_stays_that_of_the_first_start(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B has more rows than the checkpoint, and identifies them by their number alone."""
    config = settings(*ONLINE)
    folder = RunFolder(run_folder(config))
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(2, interrupt, patched)
        train(config)
    for checkpoint in folder.path.glob("checkpoint*.pt"):
        checkpoint.unlink()
    output = io.StringIO()
    run(settings(*ONLINE, "tracking.every=3"), [], Console(file=output, width=500))
    assert "note: tracking.every stays at 10" in output.getvalue()
    (page,) = wandb_server.runs.values()
    assert without_seconds(page.rows) == without_seconds(recorded_rows(folder))


def test_run_interrupted_by_hand_is_not_marked_preempting(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        after_epoch(1, interrupt, monkeypatch)
        train(settings(*ONLINE))
    (page,) = wandb_server.runs.values()
    assert (page.preempting, page.exitcode) == (False, 255)


def test_run_stopped_on_its_page_is_not_marked_preempting(
    settings: Settings, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a sweep would hand out again and again what its early termination has stopped."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setitem(RunStopChecker.__init__.__kwdefaults__, "poll_interval", 0.2)
    wandb_server.stop_runs = True
    with pytest.raises(Interrupted):
        train(settings(*ONLINE, "epochs=5000"))
    (page,) = wandb_server.runs.values()
    assert (page.preempting, page.exitcode) == (False, 255)
