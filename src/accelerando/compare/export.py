"""The comparison for scripts: a tree for JSON, and a row per group and axis for CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from typing import Any, TextIO

from accelerando.compare.align import NORM
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult, final_summary
from accelerando.compare.summary_text import caveats, headline, question

FINAL_COLUMNS = (NORM, "empirical_loss", "test_accuracy")
"""Columns whose last value is exported."""


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON types, with None for NaN and infinity.

    The cost of a threshold that was never reached is None too; ``reached`` counts the runs that
    reached it.
    """
    content = {
        "title": comparison.title,
        "by": comparison.by,
        "question": question(comparison),
        "reference": comparison.reference.name,
        "thresholds": comparison.thresholds,
        "thresholds_fixed_beforehand": comparison.fixed_thresholds,
        "groups": {
            group.name: {
                "at_end": {name: asdict(final_summary(group, name)) for name in FINAL_COLUMNS},
                "label": group.label,
                "seeds": group.seeds,
                "runs": [str(run.path) for run in group.runs],
                "differing": group.mixed,
            }
            for group in comparison.groups
        },
        "axes": {axis: _axis_to_dict(on) for axis, on in comparison.axes.items()},
        "cautions": caveats(comparison),
        "left_out": [
            {"run": str(out.run.path), "status": out.run.status, "reason": out.reason}
            for out in comparison.excluded
        ],
        "damaged": [{"run": str(run.path), "reason": run.reason} for run in comparison.damaged],
    }
    return json_value(content)  # type: ignore[no-any-return]


def _axis_to_dict(on: AxisComparison) -> dict[str, Any]:
    return {
        "answer": headline(on),
        "budget": on.budget,
        "cut_short": on.cuts,
        "order": [result.group.name for result in on.ranked],
        "best_against_second": on.best_vs_second and asdict(on.best_vs_second),
        "groups": {
            result.group.name: {
                "norm": asdict(result.norm),
                "failures": result.group.failures,
                "against_best": result.vs_best and asdict(result.vs_best),
                "against_reference": result.vs_reference and asdict(result.vs_reference),
                "reach": [asdict(time) for time in result.times_to_target],
                "speed_up": [asdict(speedup) for speedup in result.speedups],
                "ratios_to_reference": result.ratios,
            }
            for result in on.results
        },
    }


def write_csv(comparison: Comparison, file: TextIO) -> None:
    """Write a row per group and axis, with empty cells for NaN and infinity."""
    rows = [
        _csv_row(comparison, on, result) for on in comparison.axes.values() for result in on.results
    ]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(json_value(rows))


def _csv_row(comparison: Comparison, on: AxisComparison, result: GroupResult) -> dict[str, Any]:
    norm = asdict(result.norm)
    row: dict[str, Any] = {"group": result.group.name, "axis": on.axis, "budget": on.budget}
    row["seeds"] = norm.pop("count")
    row |= {f"norm_{name}": value for name, value in norm.items()}
    row |= {f"{name}_at_end": final_summary(result.group, name).mean for name in FINAL_COLUMNS}
    for name in ("pairs", "ratio", "ratio_low", "ratio_high", "probability", "p_value"):
        field = "count" if name == "pairs" else name
        row[f"{name}_to_reference"] = getattr(result.vs_reference, field, None)
    for number, threshold in enumerate(comparison.thresholds):
        time = result.times_to_target[number]
        row |= {f"reached_{threshold:g}": time.reached, f"cost_{threshold:g}": time.median}
        speedup = result.speedups[number] if result.speedups else None
        for name in ("factor", "low", "high", "bound"):
            row[f"speed_up_{threshold:g}_{name}"] = getattr(speedup, name, None)
    return row


def json_value(value: Any, digits: int | None = None) -> Any:
    """Replace NaN and infinity, also inside dicts and lists, by None, and round if asked to.

    >>> json_value({"a": [math.nan, 0.12345, 20.0]}, digits=2)
    {'a': [None, 0.12, 20]}
    """
    if isinstance(value, dict):
        return {key: json_value(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, digits) for item in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    if digits is None:
        return value
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
