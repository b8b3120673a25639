"""The parts of wandb that are private or undocumented, gathered in one place.

``tests/test_wandb_adapter.py`` checks each of them against the installed version of wandb.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

MINIMUM_VERSION = (0, 31)
"""Oldest release of wandb that this file was written for."""
NO_SYSTEM_METRICS: Mapping[str, Any] = {"x_disable_stats": True, "x_disable_meta": True}
"""Settings that keep the client from recording this machine's load and hardware."""
RESERVED_KEY = "_wandb"
"""Prefix of W&B's own keys in a run's config."""


class Rejection(Enum):
    """Why ``wandb.init`` failed."""

    DELETED = "the run was deleted on the server"
    UNREACHABLE = "the server does not answer"
    NOT_LOGGED_IN = "no valid API key"
    REFUSED = "the server refuses this run"


def too_old(version: str) -> bool:
    """Return whether a version of wandb is older than ``MINIMUM_VERSION``.

    >>> too_old("0.16.1"), too_old("0.31.0"), too_old("1.0rc1")
    (True, False, False)
    """
    parts = version.split(".")[:2]
    return all(part.isdigit() for part in parts) and tuple(map(int, parts)) < MINIMUM_VERSION


def classify_error(error: Exception) -> tuple[Rejection, str]:
    """Return why ``wandb.init`` failed, and the client's message as one line.

    The client raises the same type for most failures, so its message decides.
    """
    from wandb.errors import AuthenticationError, CommError

    reason = " ".join(str(error).split("Consider increasing")[0].split()).rstrip(".")
    if "previously created and deleted" in reason:
        return Rejection.DELETED, reason
    # the client retries a silent server until it times out, but reports an answer at once
    if isinstance(error, CommError) and "timed out" in reason.lower():
        return Rejection.UNREACHABLE, reason
    if isinstance(error, AuthenticationError) or "API key" in reason:
        return Rejection.NOT_LOGGED_IN, reason
    return Rejection.REFUSED, reason


def is_run_in_use(error: Exception) -> bool:
    """Return whether ``wandb.init`` failed because another process still uploads the run."""
    return "is in use" in str(error)


def detach_from_parent_service() -> None:
    """Make the next ``wandb.init`` start its own service process (wandb-core).

    A parent process that uses W&B hands its service down through the environment, and that service
    ends with the parent.
    """
    os.environ.pop("WANDB_SERVICE", None)


def kill_service() -> None:
    """Kill the service process, and forget it.

    While its server does not answer the service does not exit, and Python waits for it at exit.
    """
    import wandb

    # the client raises SystemExit when it notices that its service has gone
    with suppress(Exception, SystemExit):
        wandb.setup().assert_service()._proc._process.kill()  # type: ignore[union-attr]
        wandb.teardown()


def count_rows_on_server(path: str) -> int:
    """Return how many rows the server has of the run ``entity/project/id``."""
    import wandb

    return int(wandb.Api().run(path).historyLineCount)


def workspace_content(workspace: Any) -> dict[str, Any]:
    """Return what ``wandb_workspaces`` sends to the server when it saves a workspace."""
    content: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True)
    return content


def set_aside_offline_files(folder: Path) -> None:
    """Rename the offline runs in ``folder`` so that neither ``wandb sync`` nor we find them."""
    for path in folder.glob("wandb/offline-run-*"):
        path.rename(path.with_name(f"incomplete-{path.name}"))


def mark_offline_files_synced(folder: Path) -> None:
    """Mark the offline runs in ``folder`` as ``wandb sync`` does, which then skips them."""
    for path in folder.glob("wandb/*offline-run-*/run-*.wandb"):
        path.with_suffix(".wandb.synced").touch()
