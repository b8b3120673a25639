"""Send finished or interrupted runs to W&B from their records.

Every row is sent once and in order, whether the run was offline, killed or cut off from the server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any

import yaml

from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import RunStatus
from accelerando.runs.record import Row, merge_rows, read_rows
from accelerando.runs.run_lock import RunLock, RunLocked
from accelerando.wandb_mirror import sweep_agent, wandb_adapter
from accelerando.wandb_mirror.client import Unavailable
from accelerando.wandb_mirror.mirror import WandbMirror


class SyncOutcome(StrEnum):
    """What ``sync_run`` did with a run."""

    SYNCED = "synced"
    UP_TO_DATE = "up to date"
    NOT_STARTED = "not started"
    RUNNING = "still running"
    NOT_TRACKED = "skipped (tracking=disabled)"
    CORRUPT = "corrupt"
    FAILED = "failed"


def sync_run(
    run: RunStatus,
    notify: Callable[[str], None],
    *,
    include_untracked: bool = False,
    recheck: bool = False,
) -> SyncOutcome:
    """Send the rows of a run that W&B does not have yet, and record in its folder what was sent.

    Args:
        run: from ``list_runs``.
        notify: called with the run's page, or with the reason why it was not sent.
        include_untracked: also send a run trained with tracking=disabled.
        recheck: compare with the server even if the folder says that W&B has every row.

    Raises:
        Unavailable: W&B currently accepts no runs.
    """
    if run.status == Status.UNREADABLE:
        notify(f"{run.path / 'state.json'} cannot be read: inspect or remove it")
        return SyncOutcome.CORRUPT
    folder = RunFolder(run.path)
    if run.state is None or not folder.record.exists():
        return SyncOutcome.NOT_STARTED  # it is queued, or failed before its first row
    if run.status == Status.RUNNING:
        return SyncOutcome.RUNNING
    if "mode" not in run.state.wandb and not include_untracked:
        return SyncOutcome.NOT_TRACKED
    try:
        with folder.locked(notify) as lock:
            return _sync_locked(folder, lock, run.status, notify, recheck=recheck)
    except Unavailable:
        raise
    except RunLocked as error:
        notify(str(error))
        return SyncOutcome.RUNNING
    except (UsageError, OSError) as error:  # concerns this run only: the caller continues
        notify(str(error))
        return SyncOutcome.FAILED


def _sync_locked(
    folder: RunFolder,
    lock: RunLock,
    status: Status,
    notify: Callable[[str], None],
    *,
    recheck: bool,
) -> SyncOutcome:
    state = folder.read_state()
    assert state is not None
    try:
        rows, config = rows_of(folder), _read_config(folder)
    except UsageError as error:
        notify(str(error))
        return SyncOutcome.CORRUPT
    synced = {"rows": len(rows), "status": status}
    if state.wandb.get("synced") == synced and not recheck:
        return SyncOutcome.UP_TO_DATE
    # the state of a run whose process was killed still says "running"
    location = _send(folder, replace(state, status=status), config, rows, notify)
    state.wandb |= {**location, "synced": synced}
    folder.write_state(state, lock, sync=True)
    wandb_adapter.mark_offline_files_synced(folder.path)
    notify(f"{len(rows)} rows  {state.wandb['url']}")
    return SyncOutcome.SYNCED


def report_to_sweep(folder: RunFolder, state: State, notify: Callable[[str], None]) -> None:
    """Send a run that ended earlier to a sweep, under the id that the sweep assigned to it.

    Raises:
        UsageError: W&B cannot be reached, rejects the run, or misses some of its rows.
    """
    run_id = sweep_agent.assigned_run_id()
    if run_id is not None and run_id != state.wandb.get("id"):
        _send(folder, state, _read_config(folder), rows_of(folder), notify, run_id=run_id)


def rows_of(folder: RunFolder) -> list[Row]:
    """Return all rows of a run, in the order in which they were recorded."""
    steps, record = (
        read_rows(path) if path.exists() else [] for path in (folder.steps, folder.record)
    )
    return merge_rows(steps, record)


def _send(
    folder: RunFolder,
    state: State,
    config: dict[str, Any],
    rows: list[Row],
    notify: Callable[[str], None],
    run_id: str | None = None,
) -> dict[str, str | None]:
    """Mirror a run and return where it is in W&B; raise UsageError if rows are missing there."""
    mirror = WandbMirror(
        folder, state, config, mode="online", notify=notify, run_id=run_id, is_sync=True
    )
    mirror.start()
    for row in rows:
        mirror.log(row)
    if not mirror.finish(state):
        raise UsageError("some rows were not sent; rerun the same command to send the rest")
    return mirror.location()


def _read_config(folder: RunFolder) -> dict[str, Any]:
    try:
        config = yaml.safe_load(folder.config.read_text())
        config["tracking"]["project"]
    except (FileNotFoundError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UsageError(
            f"{folder.config} is missing or corrupt ({error}): rerun the same train.py command to "
            "restore it"
        ) from error
    return dict(config)
