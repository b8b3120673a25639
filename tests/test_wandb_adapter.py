"""wandb's internals behave as ``wandb_adapter`` assumes."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import wandb
from wandb.util import get_core_path

from accelerando.commands.workspace import build_workspace
from accelerando.wandb_mirror import wandb_adapter

MOVED = f"wandb {version('wandb')} has changed: adapt wandb_mirror/wandb_adapter.py, %s"


def run_python(code: str, folder: Path) -> str:
    """Run code in a process of its own, since the client keeps global state."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_kill_service_ends_the_service_process(tmp_path: Path) -> None:
    code = """
import wandb
from accelerando.wandb_mirror.wandb_adapter import kill_service

wandb.init(mode="offline", project="p", settings={"silent": True, "console": "off"})
process = wandb.setup().assert_service()._proc._process
kill_service()
print(process.wait(10))
"""
    assert run_python(code, tmp_path) == "-9\n", MOVED % "kill_service"


def test_service_address_is_passed_down_in_the_environment(tmp_path: Path) -> None:
    code = """
import os, wandb
from accelerando.wandb_mirror.wandb_adapter import detach_from_parent_service

wandb.init(mode="offline", project="p", settings={"silent": True, "console": "off"})
print("WANDB_SERVICE" in os.environ)
detach_from_parent_service()
print("WANDB_SERVICE" in os.environ)
"""
    assert run_python(code, tmp_path) == "True\nFalse\n", MOVED % "detach_from_parent_service"


def test_client_settings_exist() -> None:
    needed = {*wandb_adapter.NO_SYSTEM_METRICS, "stop_fn", "finish_timeout_raises"}
    assert needed <= set(wandb.Settings.model_fields), MOVED % "NO_SYSTEM_METRICS"


def test_service_still_reports_a_run_in_use() -> None:
    assert b"run ID %s is in use" in Path(get_core_path()).read_bytes(), MOVED % "is_run_in_use"
    assert wandb_adapter.is_run_in_use(Exception("run ID x is in use"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # wandb_workspaces triggers one in pydantic
def test_a_workspace_has_a_content() -> None:
    workspace = build_workspace("me", "theirs", "epoch")
    moved = f"wandb-workspaces {version('wandb-workspaces')} has changed: adapt workspace_content"
    assert hasattr(workspace, "_to_model"), moved
    content = wandb_adapter.workspace_content(workspace)
    assert (content["entity"], content["project"]) == ("me", "theirs"), moved
    assert content["spec"]["section"]["panelBankConfig"]["sections"], moved


def test_installed_version_is_within_the_declared_bounds() -> None:
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    bounds = re.search(r'"wandb>=(\d+)\.(\d+),<(\d+)\.(\d+)"', pyproject)
    assert bounds is not None
    lowest, limit = (int(bounds[1]), int(bounds[2])), (int(bounds[3]), int(bounds[4]))
    major, minor, *_ = map(int, re.findall(r"\d+", version("wandb")))
    assert lowest == wandb_adapter.MINIMUM_VERSION
    assert lowest <= (major, minor) < limit, MOVED % "MINIMUM_VERSION, and pyproject.toml"


@pytest.mark.parametrize(
    ("message", "rejection"),
    [
        ("Error 409: run x was previously created and deleted; try a new name", "DELETED"),
        ("Run initialization has timed out after 90.0 sec. Consider increasing it", "UNREACHABLE"),
        ("api_key not configured (no-tty). No API key found", "NOT_LOGGED_IN"),
        ("Error 403: permission denied", "REFUSED"),
    ],
)
def test_errors_are_classified_by_message(message: str, rejection: str) -> None:
    classified, reason = wandb_adapter.classify_error(wandb.errors.CommError(message))
    assert classified.name == rejection
    assert "Consider" not in reason
