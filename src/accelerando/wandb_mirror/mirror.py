"""W&B as a view of the record: the same rows as they are made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Row
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.background_writer import BackgroundWriter
from accelerando.wandb_mirror.client import finish_timeout, init_run
from accelerando.wandb_mirror.run_summary import RunSummary

AXES = ("epoch", "step", "examples")
KILLED, COMES_BACK = 255, 75
"""Exit codes of interrupted runs: W&B shows the first as killed; a sweep hands back the second."""
ARRIVAL = 5.0
"""Seconds within which a server knows of the rows that it has taken."""


class WandbMirror:
    """One W&B run.

    Args:
        folder: the run's folder; W&B keeps its files inside it.
        identity: the run's id; the same run continues under the same id. Inside a sweep it is the
            agent's.
        look: what ``tracking.look`` says of it.
        known: whether W&B's server has seen that before.
        mode: online or offline.
        rows: how many of the run's rows W&B has, where an earlier process of the run closed its
            file in order; None where that is not known. Online the server knows; offline the
            files of earlier processes, which may lack their ends, are then set aside, and all rows
            are written again.
        thresholds: of the full gradient norm, for the summary.
        artifacts: whether the record and the final checkpoint are sent, too.
        notify: told where W&B cannot be reached: training goes on, and the record is complete.
        check_interrupt: called while W&B is waited for; what it raises ends the waiting.
        afterwards: whether the run was made earlier: then W&B must be reached, and what this
            machine does meanwhile is not measured.

    Raises:
        UsageError: W&B refuses the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        identity: str,
        look: dict[str, Any],
        known: bool,
        project: str,
        entity: str | None,
        mode: str,
        rows: int | None,
        thresholds: Sequence[float] = (),
        artifacts: bool = False,
        notify: Callable[[str], None],
        check_interrupt: Callable[[], None] = lambda: None,
        afterwards: bool = False,
    ) -> None:
        if mode == "offline" and rows is None:
            for path in folder.path.glob("wandb/offline-run-*"):
                path.rename(path.with_name(f"incomplete-{path.name}"))
        self._folder, self._artifacts, self._say, self._lost = folder, artifacts, notify, False
        self._summary, self._stopped = RunSummary(thresholds), False
        self._afterwards = afterwards
        machine = {"x_disable_stats": True, "x_disable_meta": True} if afterwards else {}
        self._run = init_run(
            notify,
            identity=identity,
            mode=mode,
            must=afterwards,
            known=known,
            check_interrupt=check_interrupt,
            # no method: the client copies its settings deeply, and all that a method belongs to
            settings={"stop_fn": lambda: self._stop(), **machine},
            dir=folder.path,
            # a sweep says itself where its runs are
            **({} if sweep_agent.sweep_id() else {"project": project, "entity": entity}),
            resume="allow",
            **look,
        )
        self.mode = "offline" if self._run.offline else "online"
        self._held = self._run.starting_step if self.mode == "online" else rows or 0
        self.rows = 0
        """Rows of the run that were given so far, from its first on."""
        # of no metric a kind of summary: a sweep looks for its metric's value under the bare name
        self._run.define_metric("*", step_metric="epoch")
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for metric in ("train_loss", "batch_size", "learning_rate"):
            self._run.define_metric(metric, step_metric="step")
        self._beside = BackgroundWriter(self._give)

    @property
    def id(self) -> str:
        """What W&B calls the run."""
        return str(self._run.id)

    def place(self) -> dict[str, str | None]:
        """Where the run is in W&B, for ``state.json``; offline it has no page yet."""
        place: dict[str, str | None] = {"id": self.id, "mode": self.mode}
        place |= {"project": self._run.project, "entity": self._run.entity or None}
        return place if self._run.offline else {**place, "url": self._run.url}

    @property
    def _remedy(self) -> str:
        command = f"accelerando sync {self._folder.path}"
        return f"the record is complete, and `{command}` sends what is missing"

    def log(self, row: Row) -> None:
        """Mirror the next row of the run, unless W&B has it already.

        Returns at once: W&B's client may be slow, or wait for its own process.
        """
        self.rows += 1
        changed = self._summary.add(row)
        if self.rows > self._held:
            self._beside.put((row, changed))

    def _give(self, rows: list[tuple[Row, dict[str, Any]]]) -> None:
        """Give W&B rows; without ``step=``: a resumed run adds rows and overlaps none."""
        if self._lost:
            return
        with self._kept_away():
            for row, _ in rows:
                self._run.log(row)
            changed = {key: value for _, more in rows for key, value in more.items()}
            if changed:
                self._run.summary.update(changed)

    def finish(self, state: State, *, given_up: bool = False) -> bool:
        """Close the run. The summary is that of the whole run, not of its rows since a resume.

        Args:
            state: what became of the run.
            given_up: whether its sweep, which interrupted it, does not want it back.

        Returns:
            Whether W&B has all rows.
        """
        if not self._beside.close(finish_timeout()):
            self._lost = True
            self._say(f"note: W&B's client hangs; {self._remedy}")
            return False
        with self._kept_away():
            self._run.summary.update({"status": state.status, **self._summary.values})
            if (
                state.status == Status.DIVERGED and self.rows > self._held
            ):  # else it was told before
                text = f"{state.message}, in epoch {state.epoch}. Files: {self._folder.path}"
                self._run.alert(f"{self._run.name or self.id} diverged", text, level="ERROR")
            if self._artifacts and state.status.is_final:
                self._send_files()
        with self._kept_away():  # whatever was not sent: what is left open is nobody's to close
            self._run.finish(exit_code=0 if given_up else self._exit_code(state))
            self._see_that_all_arrived()
        return not self._lost

    def _see_that_all_arrived(self) -> None:
        """Ask the server: where it refused rows, the client warns in the terminal, and no more.

        Raises:
            ConnectionError: rows are missing there.
        """
        if self.mode == "offline":
            return
        import wandb

        late = time.monotonic() + ARRIVAL
        while (there := wandb.Api().run(self._run.path).historyLineCount) < self.rows:
            if time.monotonic() > late:
                raise ConnectionError(f"it has {there} of {self.rows} rows")
            time.sleep(0.5)

    def _exit_code(self, state: State) -> int:
        if state.status.is_final:
            return 0
        if state.status != Status.INTERRUPTED:
            return 1
        # one that was stopped on its page is not wanted back
        if self._stopped or self._afterwards or not sweep_agent.may_come_back():
            return KILLED
        self._run.mark_preempting()
        return COMES_BACK

    def _send_files(self) -> None:
        import wandb

        folder = self._folder
        for kind, paths in {
            "record": (folder.record, folder.steps, folder.config),
            "checkpoint": (folder.checkpoint,),
        }.items():
            # a run that diverged at once has no checkpoint, one that was pruned none any more
            if there := [path for path in paths if path.exists()]:
                artifact = wandb.Artifact(f"{kind}-{self.id}", type=kind)
                for path in there:
                    artifact.add_file(str(path))
                self._run.log_artifact(artifact)

    def _stop(self) -> None:
        """Asked for on the run's page; in a thread of W&B's."""
        self._stopped = True
        os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def _kept_away(self) -> Iterator[None]:
        """What goes wrong in W&B does not touch the run: its next start makes W&B whole."""
        try:
            yield
        except Exception as error:  # of many kinds, private ones among them
            told, self._lost = self._lost, True
            if not told:
                self._say(f"note: W&B failed ({error or type(error).__name__}); {self._remedy}")


def send_rows(mirror: WandbMirror, rows: Sequence[Row], state: State) -> None:
    """Mirror a run that was made earlier.

    Raises:
        UsageError: W&B does not have all its rows.
    """
    for row in rows:
        mirror.log(row)
    if not mirror.finish(state):
        raise UsageError("not all rows were sent: the same command goes on from there")
