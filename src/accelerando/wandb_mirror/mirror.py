"""Mirror the rows of a run to W&B while it trains.

Each row is sent once, in the order of the record, and training never waits for W&B.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Row
from accelerando.wandb_mirror import sweep_agent, wandb_adapter
from accelerando.wandb_mirror.client import finish_timeout, init_run
from accelerando.wandb_mirror.run_metadata import project_and_entity, run_metadata
from accelerando.wandb_mirror.run_summary import RunSummary

POSITION_METRICS = ("epoch", "step", "examples")
STEP_METRICS = ("train_loss", "batch_size", "learning_rate")
"""Metrics of a training step, drawn against the step; all others are drawn against the epoch."""
EXIT_KILLED, EXIT_PREEMPTED = 255, 75
"""Exit codes of interrupted runs: W&B shows the first as killed and requeues the second."""
BATCHING_INTERVAL = 1.0
"""Seconds between two batches of rows: sent alone, a row costs five times as much."""
ARRIVAL_TIMEOUT = 5.0
"""Seconds to wait until the server counts the rows that it has accepted."""


class WandbMirror:
    """One W&B run; ``start`` it, ``log`` every row of the run from the first on, ``finish`` it.

    Rows that W&B already has are skipped. A failure of W&B is reported once and never raised by
    ``log`` and ``finish``; the next start, or ``accelerando sync``, sends the missing rows.

    Args:
        folder: the run's folder; W&B keeps its files inside it.
        state: what is known of the run, with the W&B run of earlier starts.
        config: all settings of the run, resolved.
        mode: online or offline.
        notify: called with a message when W&B fails.
        run_id: W&B's id of the run, if not the one in ``state``; the same id continues the same
            run. A sweep assigns its own.
        is_sync: whether the run was trained earlier: then W&B must be reachable, and this machine's
            load is not recorded.
    """

    def __init__(
        self,
        folder: RunFolder,
        state: State,
        config: Mapping[str, Any],
        *,
        mode: str,
        notify: Callable[[str], None],
        run_id: str | None = None,
        is_sync: bool = False,
    ) -> None:
        self.mode, self.rows = mode, 0
        """Rows logged so far, counted from the first row of the run."""
        self._folder, self._notify, self._is_sync = folder, notify, is_sync
        self._failed = self._stop_requested = False
        self._queue: list[tuple[Row, dict[str, Any]]] = []
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write, name="W&B writer", daemon=True)
        tracking, known_id = config["tracking"], state.wandb["id"]
        self._summary = RunSummary(tracking.get("thresholds", ()))
        self._upload_files = tracking.get("artifacts", False)
        # rows that earlier starts left in complete offline files; None if one of them was killed
        self._rows_offline: int | None = state.wandb.get("rows")
        self._arguments = run_metadata(state, config) | {
            "run_id": run_id or known_id,
            "on_server": run_id in (None, known_id) and state.wandb.get("url") is not None,
            # within a sweep the agent sets the project
            **({} if sweep_agent.sweep_id() else project_and_entity(state, tracking)),
        }

    def start(self, check_interrupt: Callable[[], None] = lambda: None) -> None:
        """Create the W&B run, or resume it.

        ``check_interrupt`` is called repeatedly while waiting for the server, and may raise.

        Raises:
            UsageError: W&B rejects the run.
        """
        if self.mode == "offline" and self._rows_offline is None:
            # its end may be missing: all rows are written again, to a new file
            wandb_adapter.set_aside_offline_files(self._folder.path)
        # not a bound method: the client deep-copies its settings
        settings: dict[str, Any] = {"stop_fn": lambda: self._stop()}
        if self._is_sync:
            settings |= wandb_adapter.NO_SYSTEM_METRICS
        self._run = init_run(
            self._notify,
            mode=self.mode,
            require_server=self._is_sync,
            check_interrupt=check_interrupt,
            settings=settings,
            dir=self._folder.path,
            resume="allow",
            **self._arguments,
        )
        self.mode = "offline" if self._run.offline else "online"
        self._sent_before = (
            self._run.starting_step if self.mode == "online" else self._rows_offline or 0
        )
        self._writer.start()
        with self._failures_reported():
            self._define_metrics()

    def _define_metrics(self) -> None:
        # without ``summary=``: a sweep looks up the last value of its metric under the plain name
        self._run.define_metric("*", step_metric="epoch")
        for axis in POSITION_METRICS:
            self._run.define_metric(axis, hidden=True)
        for metric in STEP_METRICS:
            self._run.define_metric(metric, step_metric="step")

    @property
    def id(self) -> str:
        """W&B's id of the run."""
        return str(self._run.id)

    def location(self) -> dict[str, str | None]:
        """Return where the run is in W&B, for ``state.json``; an offline run has no URL yet."""
        location: dict[str, str | None] = {
            "id": self.id,
            "mode": self.mode,
            "project": self._run.project,
            "entity": self._run.entity or None,
        }
        return location if self._run.offline else {**location, "url": self._run.url}

    def log(self, row: Row) -> None:
        """Queue the next row of the run, unless W&B already has it; never waits."""
        self.rows += 1
        changed = self._summary.add(row)
        if self.rows > self._sent_before:
            self._queue.append((row, changed))

    def _write(self) -> None:
        """In a thread of its own: send the queue once a second, and what is left at the end."""
        closing = False
        while not closing:
            closing = self._closing.wait(BATCHING_INTERVAL)
            count = len(self._queue)
            if count:
                self._send(self._queue[:count])
                del self._queue[:count]

    def _send(self, rows: list[tuple[Row, dict[str, Any]]]) -> None:
        if self._failed:
            return
        with self._failures_reported():
            for row, _ in rows:
                # without ``step=``: W&B numbers the rows, and a resumed run continues the count
                self._run.log(row)
            changed = {key: value for _, more in rows for key, value in more.items()}
            if changed:
                self._run.summary.update(changed)

    def finish(self, state: State, *, stopped_by_sweep: bool = False) -> bool:
        """Send the remaining rows and the summary, close the run, and return whether all arrived.

        ``stopped_by_sweep``: the sweep stopped the run for good.
        """
        self._closing.set()
        self._writer.join(finish_timeout())
        if self._writer.is_alive():
            self._failed = True
            self._notify(f"note: the W&B client does not respond; {self._remedy}")
            return False
        with self._failures_reported():
            # the client would send the name of an enum member, not its value
            self._run.summary.update({"status": str(state.status), **self._summary.values})
            new_rows = self.rows > self._sent_before  # without any, the alert was sent before
            if state.status == Status.DIVERGED and new_rows:
                text = f"{state.message}, in epoch {state.epoch}. Run folder: {self._folder.path}"
                self._run.alert(f"{self._run.name or self.id} diverged", text, level="ERROR")
            if self._upload_files and state.status.is_final:
                self._upload_artifacts()
        with self._failures_reported():  # close the run even if the above has failed
            self._run.finish(exit_code=0 if stopped_by_sweep else self._exit_code(state))
            self._check_arrival()
        return not self._failed

    def _check_arrival(self) -> None:
        """Compare the server's row count with ours: the client only warns about rejected rows.

        Raises:
            ConnectionError: rows are missing on the server.
        """
        if self.mode == "offline":
            return
        deadline = time.monotonic() + ARRIVAL_TIMEOUT
        while (arrived := wandb_adapter.count_rows_on_server(self._run.path)) < self.rows:
            if time.monotonic() > deadline:
                raise ConnectionError(f"the server has {arrived} of {self.rows} rows")
            time.sleep(0.5)

    def _exit_code(self, state: State) -> int:
        if state.status.is_final:
            return 0
        if state.status != Status.INTERRUPTED:
            return 1
        # a run that was stopped on its W&B page must not be requeued
        if self._stop_requested or self._is_sync or not sweep_agent.will_be_restarted():
            return EXIT_KILLED
        self._run.mark_preempting()
        return EXIT_PREEMPTED

    def _upload_artifacts(self) -> None:
        import wandb

        folder = self._folder
        for kind, paths in {
            "record": (folder.record, folder.steps, folder.config),
            "checkpoint": (folder.checkpoint,),
        }.items():
            # a run that diverged early or was pruned has no checkpoint
            if existing := [path for path in paths if path.exists()]:
                artifact = wandb.Artifact(f"{kind}-{self.id}", type=kind)
                for path in existing:
                    artifact.add_file(str(path))
                self._run.log_artifact(artifact)

    def _stop(self) -> None:
        """Stop the run, as requested on its W&B page; called in a thread of the client."""
        self._stop_requested = True
        os.kill(os.getpid(), signal.SIGTERM)

    @property
    def _remedy(self) -> str:
        return (
            "the record on disk is complete; send the missing rows with "
            f"`accelerando sync {self._folder.path}`"
        )

    @contextmanager
    def _failures_reported(self) -> Iterator[None]:
        """Report the first failure of W&B instead of raising it."""
        try:
            yield
        except Exception as error:  # of many types, some private
            if not self._failed:
                self._notify(f"note: W&B failed ({error or type(error).__name__}); {self._remedy}")
            self._failed = True
