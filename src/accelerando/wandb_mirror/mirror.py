"""Mirror the rows of a run to W&B while it trains.

Each row is sent once, in the order of the record, and training never waits for W&B.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Row
from accelerando.wandb_mirror import sweep_agent, wandb_adapter
from accelerando.wandb_mirror.background_writer import BackgroundWriter
from accelerando.wandb_mirror.client import finish_timeout, init_run
from accelerando.wandb_mirror.run_metadata import project_and_entity, run_metadata
from accelerando.wandb_mirror.run_summary import RunSummary

AXES = ("epoch", "step", "examples")
STEP_METRICS = ("train_loss", "batch_size", "learning_rate")
"""Metrics of a training step, drawn against the step; all others are drawn against the epoch."""
EXIT_KILLED, EXIT_PREEMPTED = 255, 75
"""Exit codes of interrupted runs: W&B shows the first as killed and requeues the second."""
ARRIVAL_TIMEOUT = 5.0
"""Seconds to wait until the server counts the rows that it has accepted."""


@dataclass(frozen=True, kw_only=True)
class MirrorSettings:
    """Identity and options of the W&B run that mirrors a run.

    Args:
        run_id: W&B's id of the run; the same id continues the same run. A sweep assigns its own.
        metadata: arguments of ``wandb.init`` that describe the run, see ``run_metadata``.
        on_server: whether the server already has the run.
        project: the W&B project.
        entity: the user or team that owns the project; None for the default one.
        mode: online or offline.
        rows_offline: rows of the run that earlier starts left in complete offline files; None if
            one of them was killed and its file may be truncated.
        thresholds: of the full gradient norm, for the run's summary.
        artifacts: whether to upload the record and the final checkpoint.
        after_training: whether the run was made earlier: then W&B must be reachable, and this
            machine's load is not recorded.
    """

    run_id: str
    metadata: Mapping[str, Any]
    on_server: bool
    project: str
    entity: str | None
    mode: str
    rows_offline: int | None
    thresholds: Sequence[float] = ()
    artifacts: bool = False
    after_training: bool = False


def create_mirror(
    folder: RunFolder,
    state: State,
    config: Mapping[str, Any],
    *,
    mode: str,
    notify: Callable[[str], None],
    run_id: str | None = None,
    after_training: bool = False,
) -> WandbMirror:
    """Return the mirror of a run, not started yet.

    Args:
        folder: the run's folder; W&B keeps its files inside it.
        state: what is known of the run, with the W&B run of earlier starts.
        config: all settings of the run, resolved.
        mode: online or offline.
        notify: called with a message when W&B fails; training continues.
        run_id: W&B's id of the run, if another than the one in ``state``.
        after_training: whether the run was made earlier.
    """
    tracking = config["tracking"]
    known_id = state.wandb["id"]
    settings = MirrorSettings(
        run_id=run_id or known_id,
        metadata=run_metadata(state, config),
        on_server=run_id in (None, known_id) and state.wandb.get("url") is not None,
        **project_and_entity(state, tracking),
        mode=mode,
        rows_offline=state.wandb.get("rows"),
        thresholds=tracking.get("thresholds", ()),
        artifacts=tracking.get("artifacts", False),
        after_training=after_training,
    )
    return WandbMirror(folder, settings, notify)


class WandbMirror:
    """One W&B run; ``start`` it, ``log`` every row of the run from the first on, ``finish`` it.

    Rows that W&B already has are skipped. A failure of W&B is reported once and never raised by
    ``log`` and ``finish``; the next start, or ``accelerando sync``, sends the missing rows.
    """

    def __init__(
        self, folder: RunFolder, settings: MirrorSettings, notify: Callable[[str], None]
    ) -> None:
        self.settings, self.mode = settings, settings.mode
        self.rows = 0
        """Rows logged so far, counted from the first row of the run."""
        self._folder, self._notify = folder, notify
        self._summary = RunSummary(settings.thresholds)
        self._failed = self._stop_requested = False

    def start(self, check_interrupt: Callable[[], None] = lambda: None) -> None:
        """Create the W&B run, or resume it.

        Args:
            check_interrupt: called repeatedly while waiting for the server; may raise.

        Raises:
            UsageError: W&B rejects the run.
        """
        settings = self.settings
        if settings.mode == "offline" and settings.rows_offline is None:
            # its end may be missing: all rows are written again, to a new file
            wandb_adapter.set_aside_offline_files(self._folder.path)
        project = {"project": settings.project, "entity": settings.entity}
        self._run = init_run(
            self._notify,
            run_id=settings.run_id,
            mode=settings.mode,
            require_server=settings.after_training,
            on_server=settings.on_server,
            check_interrupt=check_interrupt,
            settings={
                # not a bound method: the client deep-copies its settings
                "stop_fn": lambda: self._stop(),
                **(wandb_adapter.NO_SYSTEM_METRICS if settings.after_training else {}),
            },
            dir=self._folder.path,
            # within a sweep the agent sets the project
            **({} if sweep_agent.sweep_id() else project),
            resume="allow",
            **settings.metadata,
        )
        self.mode = "offline" if self._run.offline else "online"
        self._sent_before = (
            self._run.starting_step if self.mode == "online" else settings.rows_offline or 0
        )
        self._define_metrics()
        self._writer = BackgroundWriter(self._send)

    def _define_metrics(self) -> None:
        # without ``summary=``: a sweep looks up the last value of its metric under the plain name
        self._run.define_metric("*", step_metric="epoch")
        for axis in AXES:
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
            self._writer.put((row, changed))

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
        """Send the remaining rows and the summary of the run, and close it.

        Args:
            state: how the run ended.
            stopped_by_sweep: whether its sweep stopped it for good.

        Returns:
            Whether W&B has every row.
        """
        if not self._writer.close(finish_timeout()):
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
            if self.settings.artifacts and state.status.is_final:
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
        after_training = self.settings.after_training
        if self._stop_requested or after_training or not sweep_agent.will_be_restarted():
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
