"""W&B sweeps: their files, and the real ``wandb sweep`` and ``wandb agent`` at a test double."""

from __future__ import annotations

import importlib
import itertools
import json
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
from helpers import ROOT, start_process
from requirements import missing
from test_wandb import rows
from wandb_server import KEY, WandbServer

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
COMMAND = ["${env}", "python", "train.py", "${args_no_hyphens}"]
named = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)


@named
def test_wandb_accepts_the_file(path: Path) -> None:
    """By W&B's package ``sweeps``, as by its server."""
    # no dependency: it asks for a NumPy before 2, and does without
    how = "pip install jsonschema && pip install --no-deps sweeps jsonref"
    try:
        cfg = importlib.import_module("sweeps.config.cfg")
    except ImportError:
        missing("wandb_sweeps", f"needs W&B's package: {how}")
    assert cfg.schema_violations_from_proposed_config(yaml.safe_load(path.read_text())) == []


@named
def test_every_run_composes_and_has_a_plan(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert config["command"] == COMMAND
    assert config["project"] == TrackingSettings().project
    assert config["metric"] == {"name": "full_gradient_norm", "goal": "minimize"}
    for end in (min, max):
        words = [
            f"{name}={','.join(map(str, values(about, end)))}"
            for name, about in config["parameters"].items()
        ]
        runs = compose_runs(agent_overrides(words))
        assert len(runs) == math.prod(word.count(",") + 1 for word in words)
        assert all(build_plan(run).total_steps > 0 for run in runs)


@named
def test_a_search_ends_and_follows_no_lucky_seed(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert ("run_cap" in config) == (config["method"] != "grid")
    assert config["method"] != "bayes" or set(config["parameters"]["seed"]) == {"value"}


def values(about: dict[str, Any], end: Callable[[list[Any]], Any]) -> list[Any]:
    """Every choice of a name, and one end of what is a number: numbers compose all alike."""
    if "min" in about:
        return [end([about["min"], about["max"]])]
    listed = about.get("values", [about.get("value")])
    return listed if isinstance(listed[0], str) else [end(listed)]


def test_what_an_agent_hands_back_becomes_the_first_words() -> None:
    config = {"_wandb": {"t": {"1": [1, "a=b"]}}, "hydra": {"scheduler": {"name": "x"}}, "seed": 0}
    handed = [f"{key}={value}" for key, value in config.items()]
    assert agent_overrides([*handed, "-m"]) == ["seed=0", "-m"]
    first = ["scheduler=warmup_increase", "seed=0", "measure.epochs=[1,10]", "model.widths={a:1}"]
    again = agent_overrides(["--cfg=job", "hydra.verbose=true", *handed, f"overrides={first}"])
    assert again == ["--cfg=job", "hydra.verbose=true", *first]
    assert agent_overrides(["model={a:1}"]) == ["model={a:1}"]  # Hydra's own way of writing it
    with pytest.raises(UsageError, match="expected a list of overrides"):
        agent_overrides(["overrides=3"])


def sweep(server: WandbServer, folder: Path, parameters: dict[str, Any], *more: str) -> str:
    """Make a sweep by the real command; return what agents are told."""
    command = [*COMMAND, "model=mlp", "scheduler.batch_size.initial=64", f"root={folder}/runs"]
    lists = {name: {"values": values} for name, values in parameters.items()}
    content = {"program": "train.py", "method": "grid", "parameters": lists}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**content, "command": [*command, *more]}))
    subprocess.run([*WANDB, "sweep", "--project", "theirs", path.name], cwd=folder, check=True)
    return f"someone/theirs/sweep{len(server.sweeps) - 1}"


WANDB = [sys.executable, "-m", "wandb"]


def agent(name: str) -> subprocess.Popen[str]:
    """Start the real agent where its command finds ``train.py``."""
    line = [*WANDB, "agent", "--forward-signals", "--term-timeout", "60", name]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "WANDB_DIR": os.environ["HOME"]}
    return start_process(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def folders(root: Path) -> dict[str, RunFolder]:
    """Folders of runs, by their W&B ids."""
    found = {}
    for path in root.glob("*/*/*/state.json"):
        found[json.loads(path.read_text())["wandb"]["id"]] = RunFolder(path.parent)
    return found


def test_a_grid_is_run_by_agents(tmp_path: Path, wandb_server: WandbServer) -> None:
    cases = ["decay_constant", "decay_increase", "increase_increase", "warmup_increase"]
    name = sweep(wandb_server, tmp_path, {"scheduler": cases, "seed": [0, 1]}, "epochs=2")
    agents = [agent(name) for _ in range(3)]  # as the tasks of a job array
    output = [process.communicate(timeout=400)[0] for process in agents]
    assert [process.returncode for process in agents] == [0, 0, 0], output
    (made,) = wandb_server.sweeps.values()
    assert set(wandb_server.runs) == set(made.runs) == {f"run{n}" for n in range(8)}
    here = folders(tmp_path / "runs")
    assert set(here) == set(made.runs)
    pairs = set()
    for run, shown in wandb_server.runs.items():
        state = here[run].read_state()
        assert state is not None
        assert (state.status, shown.exitcode) == ("finished", 0), output
        assert state.wandb["sweep"] == shown.about["sweep"] == made.name
        assert shown.about["project"] == state.wandb["project"] == "theirs"
        assert shown.config["run_id"] == state.run
        assert shown.config["scheduler"] == shown.config["hydra"]["scheduler"]["name"]
        assert shown.config["hydra"] == OmegaConf.to_container(OmegaConf.load(here[run].config))
        assert shown.rows == rows(here[run])
        pairs.add((shown.config["scheduler"], shown.config["seed"]))
    assert pairs == set(itertools.product(cases, [0, 1]))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".jsonl", ".json", ".pt", ".wandb", ".log"}
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in "".join(output)


def test_a_preempted_run_is_handed_back_and_resumes(
    tmp_path: Path, wandb_server: WandbServer
) -> None:
    """The agent's job is asked to end; a second agent is given the run with all keys it has."""
    parameters = {"scheduler.learning_rate": ["cosine"], "seed": [0]}
    name = sweep(wandb_server, tmp_path, parameters, "epochs=400", "tracking.every=100000")
    first = agent(name)
    wait_for_rows(tmp_path)
    for number in (signal.SIGUSR1, signal.SIGTERM):  # as slurm/agents.sbatch
        first.send_signal(number)
    output = first.communicate(timeout=120)[0]
    (shown,), (folder,) = wandb_server.runs.values(), folders(tmp_path / "runs").values()
    assert (shown.preempting, shown.exitcode) == (True, 75), output
    state = folder.read_state()
    assert state is not None
    assert state.status == "interrupted"

    second = agent(name)
    output = second.communicate(timeout=300)[0]
    (made,) = wandb_server.sweeps.values()
    first_args, second_args = (command["args"] for command in made.dealt)
    assert set(first_args) == {"scheduler.learning_rate", "seed"}
    assert {"_wandb", "hydra", "run_id", "dataset", *first_args} <= set(second_args)
    assert list(wandb_server.runs.values()) == [shown]
    state = folder.read_state()
    assert state is not None
    assert state.status == "finished", output
    assert "interrupted earlier, resuming from epoch" in output
    assert shown.exitcode == 0
    assert shown.rows == rows(folder)
    assert shown.config["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config))


def test_a_run_that_its_sweep_has_given_up_does_not_come_back(
    tmp_path: Path, wandb_server: WandbServer
) -> None:
    """As by early termination: for its agent, and for a search, it has ended well."""
    name = sweep(wandb_server, tmp_path, {"seed": [0]}, "epochs=5000", "tracking.every=100000")
    process = agent(name)
    wait_for_rows(tmp_path)
    (made,) = wandb_server.sweeps.values()
    made.stopped.add("run0")
    output = process.communicate(timeout=120)[0]
    (shown,), (folder,) = wandb_server.runs.values(), folders(tmp_path / "runs").values()
    assert (shown.preempting, shown.exitcode) == (False, 0), output
    assert len(made.dealt) == 1
    assert "interrupted: " in output
    assert "(by SIGTERM: stopped by its sweep)" in output
    assert shown.rows == rows(folder)
    assert shown.summary["status"] == "interrupted"


@pytest.mark.parametrize(
    ("signals", "late", "expected"),
    [
        (["SIGTERM"], None, True),
        (["SIGUSR1", "SIGTERM"], None, False),
        (["SIGTERM"], "SIGUSR1", False),  # SLURM's own, to every process of the job, was quicker
        (["SIGUSR2"], None, False),
        (["SIGINT", "SIGTERM"], None, False),
    ],
)
def test_only_sigterm_alone_gives_a_run_up(
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


def wait_for_rows(folder: Path) -> None:
    """Wait until a run is under way."""
    deadline = time.monotonic() + 120
    while not any(len(path.read_text().splitlines()) > 2 for path in recorded(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def recorded(folder: Path) -> list[Path]:
    return list(folder.glob("runs/*/*/*/record.jsonl"))


def test_a_run_that_ended_earlier_is_shown_to_the_sweep(
    tmp_path: Path, wandb_server: WandbServer, settings: Callable[..., RunSettings]
) -> None:
    from helpers import train

    common = ("model=mlp", "scheduler.batch_size.initial=64", "epochs=2", "tracking=disabled")
    config = settings(*common, f"root={tmp_path}/runs")
    train(config)
    name = sweep(wandb_server, tmp_path, {"seed": [0]}, "epochs=2")
    process = agent(name)
    output = process.communicate(timeout=120)[0]
    (shown,) = wandb_server.runs.values()
    assert "finished already" in output
    assert list(wandb_server.runs) == ["run0"]
    (path,) = recorded(tmp_path)
    assert shown.rows == rows(RunFolder(path.parent))
    assert shown.exitcode == 0
