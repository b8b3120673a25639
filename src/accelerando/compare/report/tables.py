"""The contents of the report's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accelerando.compare.align import NORM
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.groups import Group
from accelerando.compare.load import Run, nested
from accelerando.compare.summary_text import (
    format_amount,
    format_number,
    headline,
    speedup_sentence,
)
from accelerando.compare.table import at_end, cell, costs, ratio

NORM_HEADER = (
    "group", "seeds", "full gradient norm", "median", "min to max", "times the best",
    "beats the best in", "p", "norm at the end", "empirical loss", "test accuracy %",
)  # fmt: skip

Row = tuple[Group, list[str]]
"""A group and the texts of its cells; further lines of a cell are set small."""


class AxisTables(NamedTuple):
    """The answer and the tables on one axis, rows from the best group to the worst.

    Args:
        axis: name of the axis.
        budget: the common budget, formatted.
        answer: the headline and the speed-up.
        norms: rows under ``NORM_HEADER``.
        costs: rows with a cell for each threshold.
    """

    axis: str
    budget: str
    answer: str
    norms: list[Row]
    costs: list[Row]


def axis_tables(comparison: Comparison, on: AxisComparison) -> AxisTables:
    """Return the answer and the tables on one axis."""
    ranked = [on.standings[place] for place in on.order]
    return AxisTables(
        on.axis,
        format_amount(on),
        f"{headline(on)} {speedup_sentence(comparison, on)}".strip(),
        [(result.group, _norm_cells(on, result)) for result in ranked],
        [(result.group, costs(result)) for result in ranked],
    )


def _norm_cells(on: AxisComparison, result: GroupResult) -> list[str]:
    norm, versus = result.norm, result.against_best
    wins = p_value = ""
    if versus:
        low, high = map(format_number, (versus.probability_low, versus.probability_high))
        wins = f"{versus.wins} of {versus.count}\n{low}-{high}"
        p_value = f"{versus.p_value:.2g}".replace("nan", "–")
    return [
        str(norm.count),
        cell(norm),
        format_number(norm.median),
        f"{format_number(norm.lowest)}\u00a0to\u00a0{format_number(norm.highest)}",
        ratio(versus, best=result is on.best),
        wins,
        p_value,
        cell(at_end(result.group, NORM)),
        cell(at_end(result.group, "empirical_loss")),
        cell(at_end(result.group, "test_accuracy"), scale=100),
    ]


def shared_settings(comparison: Comparison) -> list[tuple[str, str]]:
    """Return names and values of the settings that all runs should share."""
    runs = comparison.runs
    settings = {
        "model": ("model.name",),
        "data": ("dataset.name", "dataset.examples"),
        "budget in epochs": ("epochs",),
        "yardstick": ("measure.chunk", "measure.batch_norm", "measure.dtype"),
        "optimizer": ("optimizer.momentum", "optimizer.weight_decay"),
    }
    commits = dict.fromkeys(str(run.state.environment.get("commit")) for run in runs)
    return [
        *(
            (name, ", ".join(_setting(runs, key) for key in keys))
            for name, keys in settings.items()
        ),
        ("code", ", ".join(commits)),
        ("grouped by", ", ".join(comparison.by)),
    ]


def describe_settings(runs: Sequence[Run], section: str) -> str:
    """Describe a section of the settings: ``Exponential, initial 0.1, final 0.2``."""
    texts = []
    for name in dict.fromkeys(key for run in runs for key in run.config if nested(key, [section])):
        values = [run.config.get(name) for run in runs]
        if name.endswith("_target_"):
            texts += ["/".join(dict.fromkeys(str(v).rpartition(".")[2] for v in values))]
        elif any(value is not None for value in values):
            texts += [_setting(runs, name)]
    return ", ".join(texts)


def _setting(runs: Iterable[Run], key: str) -> str:
    name = key.rpartition(".")[2].replace("_", " ")
    values = dict.fromkeys(str(run.config.get(key)) for run in runs)
    text = " or ".join(value if value != "None" else "default" for value in values)
    return text if name in ("name", "epochs") else f"{name} {text}"
