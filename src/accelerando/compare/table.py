"""The comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from accelerando.compare.groups import Group, Spread

_CAPTION = (
    "mean over seeds, and its range; the norm is the minimum over the run, loss and accuracy are "
    "those at its end"
)


def table(groups: Sequence[Group], title: str) -> Table:
    """One row per scheduler: mean over the seeds, and beneath it the range."""
    result = Table(title=title, caption=_CAPTION, box=box.SIMPLE, padding=0)
    result.add_column("scheduler", overflow="fold")
    names = ("seeds", "full gradient\nnorm", "empirical\nloss", "test\naccuracy %")
    for name in (*names, "steps,\nexamples"):
        result.add_column(name, justify="right", vertical="top")
    for group in groups:
        result.add_row(
            group.short,
            str(len(group.runs)),
            _cell(group.lowest("full_gradient_norm"), ".2g"),
            _cell(group.last("empirical_loss"), ".2g"),
            _cell(Spread(*(100 * v for v in group.last("test_accuracy"))), ".1f"),
            f"{group.last('step').mean:,.0f}\n{group.last('examples').mean:,.0f}",
        )
    return result


def _cell(spread: Spread, form: str) -> str:
    mean, lowest, highest = (format(value, form) for value in spread)
    return mean if lowest == highest else f"{mean}\n{lowest}-{highest}"
