"""Fixtures shared by several test modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from helpers import ROOT, STARTED, compose_settings
from wandb_server import WandbServer

pytest_plugins = ["slurm_cluster"]


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """Kill the processes that a test started: they would disturb the next one."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded data go to a folder of the session's, shared by its processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["ACCELERANDO_DATA"] = str(shared / "accelerando-data")


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of this test, which does not exist yet; data packages are ignored."""
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("accelerando.data.fashion_mnist.FashionMnist.INSTALLED", None)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Use one thread, as runs do by default: bitwise results depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., RunSettings]:
    """Compose settings as the command line does: ``settings("epochs=2", "model=mlp")``."""
    return partial(compose_settings, f"root={tmp_path}/runs", "tracking=disabled")


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A local W&B server that the client uses, in this process and in subprocesses."""
    import wandb

    server = WandbServer()
    server.start()
    wandb.teardown()  # the client reads the environment once and stores its service address in it
    for name in [name for name in os.environ if name.startswith(("WANDB", "SLURM"))]:
        monkeypatch.delenv(name)
    for name, value in {**server.environment, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    yield server
    wandb.teardown()
    server.stop()


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python train.py ...`` as a subprocess, with runs in a temporary folder."""

    def call(*arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments, f"root={root or tmp_path}/runs"],
            cwd=tmp_path,
            env={**os.environ, "WANDB_MODE": "disabled", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


@pytest.fixture
def make(settings: Callable[..., RunSettings], tmp_path: Path) -> Callable[..., list[Any]]:
    """Train runs that differ in some settings: ``make("seed=0", "seed=1")``."""
    from accelerando.compare.load import load_runs
    from helpers import train

    def trained(*variants: str, root: str = "runs") -> list[Any]:
        for variant in variants:
            train(settings("model=mlp", "epochs=2", f"root={tmp_path}/{root}", *variant.split()))
        return load_runs([tmp_path / root]).runs

    return trained


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    """Train an uninterrupted run, once for given overrides: ``reference("model=mlp")``.

    Tests compare other runs with it and leave it unchanged.
    """
    from helpers import train

    @cache
    def trained(*overrides: str) -> RunFolder:
        root = tmp_path_factory.mktemp("reference")
        config = compose_settings(*overrides, "tracking=disabled", f"root={root}")
        train(config)
        return RunFolder(run_folder(config))

    return trained


@pytest.fixture
def uninterrupted(reference: Callable[..., RunFolder]) -> RunFolder:
    """An uninterrupted run, with which tests compare runs that they interrupt on SLURM."""
    from slurm_runs import LONG

    return reference(*LONG)
