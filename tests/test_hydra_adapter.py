"""Hydra's internals behave as ``hydra_adapter`` assumes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from accelerando.budget import register
from accelerando.hydra_adapter import (
    command_line_overrides,
    expand_sweep,
    is_basic_sweeper,
)
from helpers import ROOT

SOURCES = [*(ROOT / "src").rglob("*.py"), ROOT / "train.py"]

LAUNCHER = """
import subprocess, sys
import cloudpickle
from hydra_plugins.accelerando_launcher.pool import PoolLauncher

class SubprocessLauncher(PoolLauncher):
    def launch(self, job_overrides, initial_job_idx):
        from accelerando.hydra_adapter import compose_jobs

        results = []
        for job in compose_jobs(
            self._context, self._task, self._config, job_overrides, initial_job_idx
        ):
            code = "import cloudpickle, sys; print(cloudpickle.load(sys.stdin.buffer)())"
            child = subprocess.run(
                [sys.executable, "-c", code], input=cloudpickle.dumps(job), capture_output=True
            )
            assert child.returncode == 0, child.stderr.decode()
            results.append(job.completed(child.stdout.decode().strip()))
            print(results[-1].return_value)
        return results
"""
APP = """
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(config_path=None, version_base="1.3")
def main(config):
    return f"job {HydraConfig.get().job.num}: seed {config.seed}"

main()
"""


@pytest.fixture
def initialized() -> Iterator[None]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def test_only_the_adapter_imports_hydra_internals() -> None:
    private = ("hydra._internal", "hydra.core.singleton", "setup_globals")
    users = {path.name for path in SOURCES if any(name in path.read_text() for name in private)}
    assert users == {"hydra_adapter.py"}


def test_overrides_are_separated_from_options() -> None:
    arguments = ["seed=0,1", "-m", "--config-dir", "more", "epochs=2"]
    assert command_line_overrides(arguments) == ["seed=0,1", "epochs=2"]
    assert command_line_overrides(["--unknown", "epochs=2"]) is None


@pytest.mark.usefixtures("initialized")
def test_sweep_expands_in_hydras_order() -> None:
    assert expand_sweep("config", ["seed=0,1", "epochs=2,3"]) == [
        ["seed=0", "epochs=2"],
        ["seed=0", "epochs=3"],
        ["seed=1", "epochs=2"],
        ["seed=1", "epochs=3"],
    ]


@pytest.mark.usefixtures("initialized")
def test_sweep_parameters_of_an_experiment_are_expanded() -> None:
    jobs = expand_sweep("config", ["+experiment=cases_digits", "seed=0"])
    assert len(jobs) > 1
    assert all("seed=0" in overrides for overrides in jobs)


def test_basic_sweeper_is_the_default() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf

    assert is_basic_sweeper(BasicSweeperConf()._target_)
    assert not is_basic_sweeper("hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper")


def test_job_runs_in_another_process_and_returns_its_value(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "subprocess_launcher.py").write_text(LAUNCHER)
    (tmp_path / "app.py").write_text(APP)
    launcher = "hydra.launcher._target_=hydra_plugins.subprocess_launcher.SubprocessLauncher"
    result = subprocess.run(
        [sys.executable, "app.py", "-m", launcher, "+seed=5,6"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.splitlines()[-2:] == ["job 0: seed 5", "job 1: seed 6"], result.stderr
