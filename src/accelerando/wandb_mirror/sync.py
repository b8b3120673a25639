"""Send runs to W&B from their records: each row once, in order, whatever became of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import yaml

from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import RunStatus
from accelerando.runs.record import Row, merge_rows, read_rows
from accelerando.runs.run_lock import RunLock, RunLocked
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.client import Unavailable
from accelerando.wandb_mirror.mirror import WandbMirror, send_rows
from accelerando.wandb_mirror.run_metadata import project_and_entity, run_metadata

SENT, COMPLETE, NOT_BEGUN, UNDER_WAY, UNTRACKED, DAMAGED, NOT_SENT = (
    "sent",
    "already complete",
    "not begun",
    "still running",
    "made with tracking=disabled",
    "without readable files",
    "not sent",
)
"""What there was to do with a run, and whether it was done."""


@dataclass(frozen=True)
class SyncOptions:
    """Which runs to send.

    Args:
        untracked: also those made with tracking=disabled.
        again: ask W&B how many rows it has also for those that were sent before.
    """

    untracked: bool = False
    again: bool = False


def sync_run(run: RunStatus, options: SyncOptions, notify: Callable[[str], None]) -> str:
    """Send what W&B does not have of a run yet; its folder remembers what was sent.

    Returns:
        What became of it, one of the words above; why it was not sent is said.

    Raises:
        Unavailable: W&B takes no run at all.
    """
    if run.status == Status.UNREADABLE:
        notify(f"{run.path} has a damaged state.json: look at it, or remove it")
        return DAMAGED
    folder = RunFolder(run.path)
    if run.state is None or not folder.record.exists():
        return NOT_BEGUN  # it waits in SLURM, or failed before
    if run.status == Status.RUNNING:
        return UNDER_WAY
    if "mode" not in run.state.wandb and not options.untracked:
        return UNTRACKED
    try:
        with folder.locked(notify) as lock:
            return _send(folder, lock, run.status, options, notify)
    except Unavailable:
        raise
    except (UsageError, OSError) as error:  # of this run: those after it are sent all the same
        notify(str(error))
        return UNDER_WAY if isinstance(error, RunLocked) else NOT_SENT


def _send(
    folder: RunFolder,
    lock: RunLock,
    status: Status,
    options: SyncOptions,
    notify: Callable[[str], None],
) -> str:
    state = folder.read_state()
    assert state is not None
    try:
        rows, config = rows_of(folder), _settings(folder)
    except UsageError as error:
        notify(str(error))
        return DAMAGED
    now = {"rows": len(rows), "status": status}
    if state.wandb.get("synced") == now and not options.again:
        return COMPLETE
    mirror = _mirror(folder, state, config, identity=state.wandb["id"], notify=notify)
    # a run whose process died says that it is running
    send_rows(mirror, rows, replace(state, status=status))
    state.wandb |= {**mirror.place(), "synced": now}
    folder.write_state(state, lock, sync=True)
    for path in folder.path.glob("wandb/*offline-run-*/run-*.wandb"):
        path.with_suffix(".wandb.synced").touch()  # as `wandb sync` does, which so leaves them
    notify(f"{len(rows)} rows  {state.wandb['url']}")
    return SENT


def report_to_sweep(folder: RunFolder, state: State, notify: Callable[[str], None]) -> None:
    """Give a sweep the rows of a run that ended earlier, under the id that it has for it.

    Raises:
        UsageError: W&B cannot be reached, refuses, or does not get all rows.
    """
    identity = sweep_agent.assigned_run_id()
    if identity is not None and identity != state.wandb.get("id"):
        mirror = _mirror(folder, state, _settings(folder), identity=identity, notify=notify)
        send_rows(mirror, rows_of(folder), state)


def rows_of(folder: RunFolder) -> list[Row]:
    """All rows of a run, in the order in which they were made."""
    steps, record = (
        read_rows(path) if path.exists() else [] for path in (folder.steps, folder.record)
    )
    return merge_rows(steps, record)


def _mirror(
    folder: RunFolder,
    state: State,
    config: dict[str, Any],
    *,
    identity: str,
    notify: Callable[[str], None],
) -> WandbMirror:
    tracking = config["tracking"]
    return WandbMirror(
        folder,
        identity=identity,
        look=run_metadata(state, config),
        known=identity == state.wandb["id"] and state.wandb.get("url") is not None,
        **project_and_entity(state, tracking),
        mode="online",
        rows=None,
        thresholds=tracking.get("thresholds", ()),
        artifacts=tracking.get("artifacts", False),
        notify=notify,
        afterwards=True,
    )


def _settings(folder: RunFolder) -> dict[str, Any]:
    try:
        config = yaml.safe_load(folder.config.read_text())
        config["tracking"]["project"]
    except (FileNotFoundError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UsageError(
            f"{folder.config} is damaged ({error}): the same train.py command as before mends it"
        ) from error
    return dict(config)
