"""The tables of a comparison, in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from accelerando.compare.align import NORM
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult, final_summary
from accelerando.compare.formatting import format_budget, format_number, format_ratio
from accelerando.compare.statistics import PairedTest, Summary
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT, Speedup, TimeToTarget

NORM_HEADER = (
    "group", "seeds", "full gradient norm", "median", "min to max", "times the best",
    "beats the best in", "p", "norm at the end", "empirical loss", "test accuracy %",
)  # fmt: skip


def results_table(comparison: Comparison, on: AxisComparison) -> Table:
    """Return a table for the terminal with norm, final loss and final accuracy of each group."""
    table = _table(
        title=f"{comparison.title}: at equal {on.axis} ({format_budget(on)})",
        caption="Means over seeds, 95 % intervals below. The norm is the minimum so far at the "
        "common budget; loss and accuracy are those at the end of the runs.",
        columns=["seeds", "full gradient\nnorm", "times the\nbest", "empirical\nloss",
                 "test\naccuracy %", "steps"],
    )  # fmt: skip
    for result in on.ranked:
        _, norm, _, _, ratio, *_, loss, accuracy = norm_cells(on, result)
        label = result.group.label + (
            f"\n({result.group.failures})" if result.group.failures else ""
        )
        steps = format_number(final_summary(result.group, "step").mean)
        table.add_row(label, str(result.norm.count), norm, ratio, loss, accuracy, steps)
    return table


def threshold_table(comparison: Comparison, on: AxisComparison) -> Table:
    """Return a table for the terminal with costs of thresholds and speed-ups."""
    table = _table(
        title=f"{on.axis} until the norm reaches a threshold",
        caption="Median over seeds, with the number of runs that reached it if some did not. "
        f"Below, the speed-up over {comparison.reference.label} and its 95 % interval, or one end "
        "of it (≥, ≤); it is evidence only at thresholds that were fixed before the runs.",
        columns=threshold_header(comparison),
    )
    for result in on.ranked:
        table.add_row(result.group.label, *threshold_cells(result))
    return table


def _table(title: str, caption: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE, padding=0)
    table.add_column("group", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", vertical="top", no_wrap=True)
    return table


def norm_cells(on: AxisComparison, result: GroupResult) -> list[str]:
    """Return the cells of a group under ``NORM_HEADER``, without the first.

    The second and third line of a cell are an interval.
    """
    norm, test = result.norm, result.vs_best
    wins = p_value = ""
    if test:
        wins = f"{test.wins} of {test.count}"
        wins += f"\n{format_number(test.probability_low)}-{format_number(test.probability_high)}"
        p_value = f"{test.p_value:.2g}".replace("nan", "–")
    return [
        f"{norm.count}\n{result.group.failures}" if result.group.failures else str(norm.count),
        _summary_cell(norm),
        format_number(norm.median),
        f"{format_number(norm.lowest)}\u00a0to\u00a0{format_number(norm.highest)}",
        "1" if result is on.best else "–" if result.group.failures else _ratio_cell(test),
        wins,
        p_value,
        _summary_cell(final_summary(result.group, NORM)),
        _summary_cell(final_summary(result.group, "empirical_loss")),
        _summary_cell(final_summary(result.group, "test_accuracy"), scale=100),
    ]


def _summary_cell(summary: Summary, scale: float = 1) -> str:
    mean = format_number(scale * summary.mean)
    if math.isnan(summary.low) or summary.low == summary.high:
        return mean
    return f"{mean}\n{format_number(scale * summary.low)}-{format_number(scale * summary.high)}"


def _ratio_cell(test: PairedTest | None) -> str:
    if test is None:
        return "–"
    ratio = format_ratio(test.ratio)
    if test.count < 2 or math.isnan(test.ratio):
        return ratio
    return f"{ratio}\n{format_ratio(test.ratio_low)}-{format_ratio(test.ratio_high)}"


def threshold_header(comparison: Comparison) -> list[str]:
    """Return the column names of ``threshold_cells``."""
    return [f"{threshold:g}" for threshold in comparison.thresholds]


def threshold_cells(result: GroupResult) -> list[str]:
    """Format the cost of each threshold, with the speed-up over the reference below."""
    costs = [_cost(time) for time in result.times_to_target]
    if not result.speedups:
        return costs
    return [
        f"{cost}\n{_speedup(speedup)}" for cost, speedup in zip(costs, result.speedups, strict=True)
    ]


def _cost(time: TimeToTarget) -> str:
    """Format the median cost, with the share of runs that reached the threshold if not all did."""
    cost = format_number(time.median)
    if math.isinf(time.median):  # fewer than half of the seeds reached it
        cost = "never" if math.isinf(time.ended) else f"> {format_number(time.ended)}"
    return cost if time.reached == time.runs else f"{cost}\n({time.reached}/{time.runs})"


def _speedup(speedup: Speedup) -> str:
    signs = {EXACT: "", AT_LEAST: "≥ ", AT_MOST: "≤ "}
    if speedup.bound not in signs:
        return "–"
    text = f"{signs[speedup.bound]}{format_ratio(speedup.factor)}×"
    if speedup.bound == EXACT and not math.isnan(speedup.low):
        text += f"\n{format_ratio(speedup.low)}-{format_ratio(speedup.high)}"
    return text
