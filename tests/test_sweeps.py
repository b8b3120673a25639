"""W&B sweeps: the files in sweeps/, and the real ``wandb sweep`` and ``wandb agent``."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.composition import compose_runs
from accelerando.config import RunSettings, TrackingSettings
from accelerando.interruption import SignalHandler
from accelerando.runs.folder import RunFolder
from accelerando.wandb_mirror.sweep_agent import agent_overrides, stopped_by_sweep
from helpers import ROOT, start_process, train
from requirements import missing
from wandb_runs import (
    SWEEP_COMMAND,
    WANDB,
    create_sweep,
    folders_by_wandb_id,
    record_files,
    recorded_rows,
)
from wandb_server import KEY, WandbServer

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
for_each_sweep = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)


@for_each_sweep
@pytest.mark.filterwarnings("ignore:Valid config keys:UserWarning")  # it uses Pydantic 1's names
def test_wandb_accepts_the_file(path: Path) -> None:
    """W&B's server validates sweeps with its package ``sweeps``."""
    # not a declared dependency, since it pins an old NumPy that it does not need
    install = "pip install jsonschema && pip install --no-deps sweeps jsonref"
    try:
        cfg = importlib.import_module("sweeps.config.cfg")
    except ImportError:
        missing("wandb_sweeps", f"needs W&B's package: {install}")
    assert cfg.schema_violations_from_proposed_config(yaml.safe_load(path.read_text())) == []


@for_each_sweep
def test_every_run_of_a_sweep_composes_and_has_a_plan(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert config["command"] == SWEEP_COMMAND
    assert config["project"] == TrackingSettings().project
    assert config["metric"] == {"name": "full_gradient_norm", "goal": "minimize"}
    for extreme in (min, max):
        overrides = [
            f"{name}={','.join(map(str, choices(parameter, extreme)))}"
            for name, parameter in config["parameters"].items()
        ]
        runs = compose_runs(agent_overrides(overrides))
        assert len(runs) == math.prod(override.count(",") + 1 for override in overrides)
        assert all(build_plan(run).total_steps > 0 for run in runs)


@for_each_sweep
def test_search_is_bounded_and_uses_one_seed(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert ("run_cap" in config) == (config["method"] != "grid")
    assert config["method"] != "bayes" or set(config["parameters"]["seed"]) == {"value"}


def choices(parameter: dict[str, Any], extreme: Callable[[list[Any]], Any]) -> list[Any]:
    """Every value of a parameter that selects by name, and one extreme of a number."""
    if "min" in parameter:
        return [extreme([parameter["min"], parameter["max"]])]
    values = parameter.get("values", [parameter.get("value")])
    return values if isinstance(values[0], str) else [extreme(values)]


def test_restarted_run_gets_the_overrides_of_its_first_start() -> None:
    config = {"_wandb": {"t": {"1": [1, "a=b"]}}, "hydra": {"scheduler": {"name": "x"}}, "seed": 0}
    arguments = [f"{key}={value}" for key, value in config.items()]
    assert agent_overrides([*arguments, "-m"]) == ["seed=0", "-m"]
    first = ["scheduler=warmup_increase", "seed=0", "measure.epochs=[1,10]", "model.widths={a:1}"]
    options = ["--cfg=job", "hydra.verbose=true"]
    assert agent_overrides([*options, *arguments, f"overrides={first}"]) == [*options, *first]
    assert agent_overrides(["model={a:1}"]) == ["model={a:1}"]  # Hydra's syntax is kept
    with pytest.raises(UsageError, match="expected a list of overrides"):
        agent_overrides(["overrides=3"])


def start_agent(name: str) -> subprocess.Popen[str]:
    """Start the real agent in the folder that contains ``train.py``."""
    command = [*WANDB, "agent", "--forward-signals", "--term-timeout", "60", name]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "WANDB_DIR": os.environ["HOME"]}
    return start_process(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for_rows(folder: Path) -> None:
    """Wait until a run in ``folder`` is training."""
    deadline = time.monotonic() + 120
    while not any(len(path.read_text().splitlines()) > 2 for path in record_files(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_agents_complete_a_grid(tmp_path: Path, wandb_server: WandbServer) -> None:
    cases = ["decay_constant", "decay_increase", "increase_increase", "warmup_increase"]
    name = create_sweep(wandb_server, tmp_path, {"scheduler": cases, "seed": [0, 1]}, "epochs=2")
    agents = [start_agent(name) for _ in range(3)]  # as the tasks of a job array do
    output = [process.communicate(timeout=400)[0] for process in agents]
    assert [process.returncode for process in agents] == [0, 0, 0], output
    (sweep,) = wandb_server.sweeps.values()
    assert set(wandb_server.runs) == set(sweep.runs) == {f"run{n}" for n in range(8)}
    folders = folders_by_wandb_id(tmp_path / "runs")
    assert set(folders) == set(sweep.runs)
    combinations = set()
    for run_id, page in wandb_server.runs.items():
        folder = folders[run_id]
        state = folder.read_state()
        assert state is not None
        assert (state.status, page.exitcode) == ("finished", 0), output
        assert state.wandb["sweep"] == page.attributes["sweep"] == sweep.name
        assert page.attributes["project"] == state.wandb["project"] == "theirs"
        assert page.config["run_id"] == state.run
        assert page.config["scheduler"] == page.config["hydra"]["scheduler"]["name"]
        assert page.config["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config))
        assert page.rows == recorded_rows(folder)
        combinations.add((page.config["scheduler"], page.config["seed"]))
    assert combinations == set(itertools.product(cases, [0, 1]))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".jsonl", ".json", ".pt", ".wandb", ".log"}
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in "".join(output)


def test_preempted_run_is_handed_out_again_and_resumes(
    tmp_path: Path, wandb_server: WandbServer
) -> None:
    """The second agent receives every key of the run's config as arguments."""
    parameters = {"scheduler.learning_rate": ["cosine"], "seed": [0]}
    name = create_sweep(wandb_server, tmp_path, parameters, "epochs=400", "tracking.every=100000")
    first = start_agent(name)
    wait_for_rows(tmp_path)
    for number in (signal.SIGUSR1, signal.SIGTERM):  # as slurm/agents.sbatch does
        first.send_signal(number)
    output = first.communicate(timeout=120)[0]
    (page,) = wandb_server.runs.values()
    (folder,) = folders_by_wandb_id(tmp_path / "runs").values()
    assert (page.preempting, page.exitcode) == (True, 75), output
    state = folder.read_state()
    assert state is not None
    assert state.status == "interrupted"

    second = start_agent(name)
    output = second.communicate(timeout=300)[0]
    (sweep,) = wandb_server.sweeps.values()
    first_args, second_args = (command["args"] for command in sweep.commands)
    assert set(first_args) == {"scheduler.learning_rate", "seed"}
    assert {"_wandb", "hydra", "run_id", "dataset", *first_args} <= set(second_args)
    assert list(wandb_server.runs.values()) == [page]
    state = folder.read_state()
    assert state is not None
    assert state.status == "finished", output
    assert "(last status: interrupted)" in output
    assert page.exitcode == 0
    assert page.rows == recorded_rows(folder)
    assert page.config["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config))


def test_run_stopped_by_its_sweep_is_not_restarted(
    tmp_path: Path, wandb_server: WandbServer
) -> None:
    """As after early termination: to its agent and to a search, the run has succeeded."""
    name = create_sweep(
        wandb_server, tmp_path, {"seed": [0]}, "epochs=5000", "tracking.every=100000"
    )
    process = start_agent(name)
    wait_for_rows(tmp_path)
    (sweep,) = wandb_server.sweeps.values()
    sweep.stopped.add("run0")
    output = process.communicate(timeout=120)[0]
    (page,) = wandb_server.runs.values()
    (folder,) = folders_by_wandb_id(tmp_path / "runs").values()
    assert (page.preempting, page.exitcode) == (False, 0), output
    assert len(sweep.commands) == 1
    assert "interrupted: " in output
    assert "(by SIGTERM: stopped by its sweep)" in output
    assert page.rows == recorded_rows(folder)
    assert page.summary["status"] == "interrupted"


@pytest.mark.parametrize(
    ("signals", "late", "expected"),
    [
        (["SIGTERM"], None, True),
        (["SIGUSR1", "SIGTERM"], None, False),
        (["SIGTERM"], "SIGUSR1", False),  # SLURM signalled every process of the job first
        (["SIGUSR2"], None, False),
        (["SIGINT", "SIGTERM"], None, False),
    ],
)
def test_sweep_stops_a_run_with_sigterm_alone(
    signals: list[str], late: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    monkeypatch.setattr("accelerando.wandb_mirror.sweep_agent.ANNOUNCEMENT_DELAY", 1.0)
    with SignalHandler() as stop:
        for name in signals:
            os.kill(os.getpid(), signal.Signals[name])
        if late is not None:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.Signals[late])).start()
        assert stopped_by_sweep(stop) == expected
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert not stopped_by_sweep(stop)


def test_run_finished_before_the_sweep_is_reported_to_it(
    tmp_path: Path, wandb_server: WandbServer, settings: Callable[..., RunSettings]
) -> None:
    common = ("model=mlp", "scheduler.batch_size.initial=64", "epochs=2", "tracking=disabled")
    config = settings(*common, f"root={tmp_path}/runs")
    train(config)
    process = start_agent(create_sweep(wandb_server, tmp_path, {"seed": [0]}, "epochs=2"))
    output = process.communicate(timeout=120)[0]
    (page,) = wandb_server.runs.values()
    assert "it has already finished" in output
    assert list(wandb_server.runs) == ["run0"]
    (path,) = record_files(tmp_path)
    assert page.rows == recorded_rows(RunFolder(path.parent))
    assert page.exitcode == 0
