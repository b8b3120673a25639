"""Progress of a single run: a bar in a terminal, occasional lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from accelerando.runs.record import Row


class ProgressView:
    """Show epoch, batch size, learning rate, loss and full gradient norm of a run.

    In a terminal they are shown with a bar, elsewhere in a line for every tenth of the run.
    """

    def __init__(self, console: Console, *, epochs: int, examples: int) -> None:
        self._console, self._epochs = console, epochs
        self._next_line = 0.0
        self._shown = {"loss": float("nan"), "norm": float("nan")}
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]:>{task.fields[width]}}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        # progress in examples, not steps: the late steps of a growing batch take far longer
        self._task = self.bar.add_task(
            "", total=epochs * examples, epoch=0, epochs=epochs, width=len(str(epochs)), text=""
        )

    def log(self, row: Row) -> None:
        measured = "train_loss" not in row
        for name in _SHOWN.keys() & row.keys():
            self._shown[_SHOWN[name]] = row[name]
        text = (
            f"batch {row['batch_size']}  rate {row['learning_rate']:.3g}  "
            f"loss {self._shown['loss']:.3g}  gradient {self._shown['norm']:.3g}"
        )
        epoch = int(row["epoch"])
        self.bar.update(self._task, completed=row["examples"], epoch=epoch, text=text)
        if measured and not self._console.is_terminal and row["epoch"] >= self._next_line:
            self._console.print(f"epoch {epoch}/{self._epochs}  {text}", highlight=False)
            self._next_line = row["epoch"] + self._epochs / 10


_SHOWN = {
    "full_gradient_norm": "norm",
    "approximate_gradient_norm": "norm",
    "subset_gradient_norm": "norm",
    "train_loss": "loss",
    "empirical_loss": "loss",
    "approximate_loss": "loss",
    "subset_loss": "loss",
}
