"""W&B as a view of the record: the same rows as they are made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerando.checks import UsageError
from accelerando.tracking.folder import FAILED, State
from accelerando.tracking.record import Row

ATTEMPTS = 5
"""Times to try, a second apart, to begin a run that W&B says is in use."""
AXES = ("epoch", "step", "examples")


def resolve_mode(mode: str) -> str:
    """``auto`` becomes WANDB_MODE where that is set, online where logged in, else offline."""
    if mode != "auto":
        return mode
    asked = os.environ.get("WANDB_MODE")
    if asked in ("online", "offline", "disabled"):
        return asked
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class WandbMirror:
    """One W&B run.

    Args:
        folder: the run's folder; W&B keeps its files inside it.
        identity: the run's id; the same run continues under the same id.
        name: what W&B calls the run; ``group`` brings the seeds of a scheduler together.
        config: the resolved settings, logged under the key ``hydra``.
        top: the handful of values people filter by.
        mode: online or offline.
        rows: how many of the run's rows W&B has, where an earlier process of the run closed its
            file in order; None where that is not known. Online the server knows; offline the
            files of earlier processes, which may lack their ends, are then set aside, and all rows
            are written again.

        say: told where W&B cannot be reached: training goes on, and the record is complete.

    Raises:
        UsageError: W&B refuses the run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: str,
        name: str,
        group: str,
        project: str,
        entity: str | None,
        config: dict[str, Any],
        top: dict[str, Any],
        mode: str,
        rows: int | None,
        say: Callable[[str], None],
    ) -> None:
        if mode == "offline" and rows is None:
            for path in folder.glob("wandb/offline-run-*"):
                path.rename(path.with_name(f"incomplete-{path.name}"))
        self._say, self._lost = say, False
        self._run = _started(
            say,
            dir=folder,
            id=identity,
            name=name,
            group=group,
            project=project,
            entity=entity,
            config={**top, "hydra": config},
            mode="online" if mode == "online" else "offline",
            resume="allow",
        )
        self.mode = "offline" if self._run.offline else "online"
        self._held = self._run.starting_step if self.mode == "online" else rows or 0
        self.rows = 0
        """Rows of the run that were given so far, from its first on."""
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for metric in ("train_loss", "batch_size", "learning_rate"):
            self._run.define_metric(metric, step_metric="step")
        for metric, summary in _MEASURED.items():
            self._run.define_metric(metric, step_metric="epoch", summary=summary)

    @property
    def url(self) -> str | None:
        """The run's page; None offline."""
        return None if self._run.offline else self._run.url

    def log(self, row: Row) -> None:
        """Mirror the next row of the run, unless W&B has it already.

        No ``step=`` is given, so that a resumed run adds rows and overlaps none.
        """
        self.rows += 1
        if self.rows > self._held and not self._lost:
            with self._kept_away():
                self._run.log(row)

    def finish(self, state: State) -> bool:
        """Close the run. The summary is that of the whole run, not of its rows since a resume.

        Returns:
            Whether W&B has all rows.
        """
        if not self._lost:
            with self._kept_away():
                self._run.summary["status"] = state.status
                self._run.summary["minimum_full_gradient_norm"] = state.full_gradient_norm
                self._run.finish(exit_code=1 if state.status == FAILED else 0)
        return not self._lost

    @contextmanager
    def _kept_away(self) -> Iterator[None]:
        """What goes wrong in W&B does not touch the run: its next start makes W&B whole."""
        try:
            yield
        except Exception as error:  # of many kinds, private ones among them
            self._lost = True
            self._say(f"note: W&B failed ({error}); the record goes on without it")


def _started(say: Callable[[str], None], **arguments: Any) -> Any:
    import wandb

    refusals = (wandb.errors.AuthenticationError, wandb.errors.UsageError)
    for _ in range(ATTEMPTS):
        try:
            return wandb.init(**arguments, settings=wandb.Settings(silent=True, console="off"))
        except wandb.errors.Error as error:
            if isinstance(error, refusals) or arguments["mode"] == "offline":
                raise UsageError(
                    f"W&B refuses the run: {error}. Log in with `wandb login`, or use "
                    "tracking=offline"
                ) from error
            say(f"note: W&B cannot be reached ({error}): this start is mirrored offline")
            arguments["mode"] = "offline"
        except Exception as error:  # of a private kind
            # W&B's own process takes a moment to see that the one it worked for was killed
            if "is in use" not in str(error):
                raise
            time.sleep(1)
    raise UsageError(f"W&B still works on the run {arguments['id']}, for another process: wait")


_MEASURED = {
    "full_gradient_norm": "min",
    "empirical_loss": "last",
    "train_accuracy": "last",
    "test_loss": "last",
    "test_accuracy": "last",
}
