"""The tables that ``accelerando compare`` prints."""

from __future__ import annotations

from rich import box
from rich.table import Table

from accelerando.compare.comparison import AxisComparison, Comparison, final_summary
from accelerando.compare.formatting import (
    format_budget,
    format_number,
    ratio_cell,
    summary_cell,
    threshold_cells,
)


def results_table(comparison: Comparison, on: AxisComparison) -> Table:
    """Return a table with the norm at equal cost and the final loss and accuracy of each group."""
    table = _table(
        title=f"{comparison.title}: at equal {on.axis} ({format_budget(on)})",
        caption="Means over seeds, 95 % intervals below. The norm is the minimum so far at the "
        "common budget; loss and accuracy are those at the end of the runs.",
        columns=["seeds", "full gradient\nnorm", "times the\nbest", "empirical\nloss",
                 "test\naccuracy %", "steps"],
    )  # fmt: skip
    for result in on.ranked:
        group = result.group
        table.add_row(
            group.label,
            str(result.norm.count),
            summary_cell(result.norm),
            ratio_cell(result.vs_best, best=result is on.best),
            summary_cell(final_summary(group, "empirical_loss")),
            summary_cell(final_summary(group, "test_accuracy"), scale=100),
            format_number(final_summary(group, "step").mean),
        )
    return table


def threshold_table(comparison: Comparison, on: AxisComparison) -> Table:
    """Return a table with the cost of each threshold and the speed-up over the reference."""
    table = _table(
        title=f"{on.axis} until the norm reaches a threshold",
        caption="Median over seeds, with the number of runs that reached it if some did not. "
        f"Below, the speed-up over {comparison.reference.label} and its 95 % interval.",
        columns=[f"{threshold:g}" for threshold in comparison.thresholds],
    )
    for result in on.ranked:
        table.add_row(result.group.label, *threshold_cells(result))
    return table


def _table(title: str, caption: str, columns: list[str]) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE, padding=0)
    table.add_column("group", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", vertical="top", no_wrap=True)
    return table
