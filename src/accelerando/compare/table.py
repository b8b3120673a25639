"""The comparison as tables for the terminal."""

from __future__ import annotations

import math

import numpy as np
from rich import box
from rich.table import Table

from accelerando.compare.align import column
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.groups import Group
from accelerando.compare.statistics import Paired, Summary, over_seeds, summaries
from accelerando.compare.summary_text import (
    format_amount,
    format_number,
    format_ratio,
    format_speedup,
)
from accelerando.compare.thresholds import TimeToTarget


def table(comparison: Comparison, on: AxisComparison) -> Table:
    """One row per group: the norm at equal cost, and loss and accuracy at the end."""
    result = Table(
        title=f"{comparison.title}: at equal {on.axis} ({format_amount(on)})",
        caption="mean over seeds, beneath it its 95 % interval; the norm is the minimum so far at "
        "the common budget, loss and accuracy are those at the end of the runs; of the best, "
        "'times the best' is 1",
        box=box.SIMPLE,
        padding=0,
    )
    result.add_column("group", overflow="fold")
    names = ("seeds", "full gradient\nnorm", "times the\nbest", "empirical\nloss",
             "test\naccuracy %", "steps")  # fmt: skip
    for name in names:
        result.add_column(name, justify="right", vertical="top")
    for place in on.order:
        standing = on.standings[place]
        group = standing.group
        result.add_row(
            group.label,
            str(standing.norm.count),
            cell(standing.norm),
            ratio(standing.against_best, best=standing is on.best),
            cell(at_end(group, "empirical_loss")),
            cell(at_end(group, "test_accuracy"), scale=100),
            format_number(at_end(group, "step").mean),
        )
    return result


def reach_table(comparison: Comparison, on: AxisComparison) -> Table:
    """One row per group, one column per level: median cost, and beneath it the speed-up."""
    result = Table(
        title=f"{on.axis} to bring the norm to a level",
        caption="median over seeds, and how many runs reached it where not all did; beneath it how "
        f"many times fewer than {comparison.reference.label}",
        box=box.SIMPLE,
        padding=0,
    )
    result.add_column("group", overflow="fold")
    for threshold in comparison.thresholds:
        result.add_column(f"{threshold:g}", justify="right", vertical="top")
    for place in on.order:
        standing = on.standings[place]
        result.add_row(standing.group.label, *costs(standing))
    return result


def costs(standing: GroupResult) -> list[str]:
    """What each level costs a group, and beneath it the speed-up where there is one."""
    cells = [reached(reach) for reach in standing.reach]
    if not standing.speed_up:
        return cells
    factors = map(format_speedup, standing.speed_up)
    return [f"{cost}\n{format_ratio}" for cost, format_ratio in zip(cells, factors, strict=True)]


def at_end(group: Group, name: str) -> Summary:
    """The last value of a column, over a group's seeds."""
    values = np.array([column(run, name)[-1] for run in group.runs])
    return summaries(over_seeds(values, [seed for seed, _ in group.members])[None])[0]


def cell(found: Summary, scale: float = 1) -> str:
    """Mean, and beneath it the interval where there is one."""
    mean = format_number(scale * found.mean)
    if math.isnan(found.low) or found.low == found.high:
        return mean
    return f"{mean}\n{format_number(scale * found.low)}-{format_number(scale * found.high)}"


def ratio(found: Paired | None, *, best: bool) -> str:
    """How many times the best group's norm, with its interval."""
    if best:
        return "1"
    if found is None:
        return "–"
    text = format_ratio(found.ratio)
    if found.count < 2 or math.isnan(found.ratio):
        return text
    return f"{text}\n{format_ratio(found.ratio_low)}-{format_ratio(found.ratio_high)}"


def reached(reach: TimeToTarget) -> str:
    """Median cost; how many of the runs reached the level where not all did."""
    if reach.reached == reach.runs:
        return format_number(reach.median)
    median = (
        f"> {format_number(reach.ended)}"
        if math.isinf(reach.median)
        else format_number(reach.median)
    )
    return f"{median} ({reach.reached}/{reach.runs})"
