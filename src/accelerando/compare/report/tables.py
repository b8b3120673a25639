"""The contents of the report's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accelerando.compare.align import NORM
from accelerando.compare.comparison import (
    AxisComparison,
    Comparison,
    GroupResult,
    final_summary,
)
from accelerando.compare.formatting import (
    format_number,
    ratio_cell,
    summary_cell,
)
from accelerando.compare.load import Run, nested
from accelerando.scheduler_names import is_display

NORM_HEADER = (
    "group", "seeds", "full gradient norm", "median", "min to max", "times the best",
    "beats the best in", "p", "norm at the end", "empirical loss", "test accuracy %",
)  # fmt: skip


def norm_cells(on: AxisComparison, result: GroupResult) -> list[str]:
    """Return the cells of a group under ``NORM_HEADER``; further lines of a cell are set small."""
    norm, test = result.norm, result.vs_best
    wins = p_value = ""
    if test:
        low, high = map(format_number, (test.probability_low, test.probability_high))
        wins = f"{test.wins} of {test.count}\n{low}-{high}"
        p_value = f"{test.p_value:.2g}".replace("nan", "–")
    return [
        str(norm.count),
        summary_cell(norm),
        format_number(norm.median),
        f"{format_number(norm.lowest)}\u00a0to\u00a0{format_number(norm.highest)}",
        ratio_cell(test, best=result is on.best),
        wins,
        p_value,
        summary_cell(final_summary(result.group, NORM)),
        summary_cell(final_summary(result.group, "empirical_loss")),
        summary_cell(final_summary(result.group, "test_accuracy"), scale=100),
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
    names = dict.fromkeys(key for run in runs for key in run.config if nested(key, [section]))
    for name in names:
        if is_display(name):
            continue
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
