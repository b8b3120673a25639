"""The comparison for machines: one tree for JSON, one row per group and axis for CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from typing import Any, TextIO

from accelerando.compare.align import NORM
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.summary_text import caveats, headline, question
from accelerando.compare.table import at_end

AT_END = (NORM, "empirical_loss", "test_accuracy")
"""What is told as it was last measured, besides the norm's minimum so far."""


def tree(comparison: Comparison) -> dict[str, Any]:
    """Everything that was found, in what JSON can hold: null stands for no number.

    A cost that was never reached is null as well; ``reached`` says of how many runs it is known.
    """
    content = {
        "title": comparison.title,
        "by": list(comparison.by),
        "question": question(comparison),
        "reference": comparison.reference.name,
        "thresholds": list(comparison.thresholds),
        "groups": {
            group.name: {
                "at_end": {name: asdict(at_end(group, name)) for name in AT_END},
                "label": group.label,
                "seeds": group.seeds,
                "runs": [str(run.path) for run in group.runs],
                "differing": list(group.mixed),
            }
            for group in comparison.groups
        },
        "axes": {axis: _axis(on) for axis, on in comparison.axes.items()},
        "cautions": caveats(comparison),
        "left_out": [
            {"run": str(out.run.path), "status": out.run.status, "reason": out.reason}
            for out in comparison.left_out
        ],
        "damaged": [
            {"run": str(broken.path), "reason": broken.reason} for broken in comparison.broken
        ],
    }
    return _finite(content)  # type: ignore[no-any-return]


def _axis(on: AxisComparison) -> dict[str, Any]:
    return {
        "answer": headline(on),
        "budget": on.budget,
        "order": [on.standings[place].group.name for place in on.order],
        "best_against_second": None if on.duel is None else asdict(on.duel),
        "groups": {standing.group.name: _standing(standing) for standing in on.standings},
    }


def _standing(standing: GroupResult) -> dict[str, Any]:
    against = {
        name: None if duel is None else asdict(duel)
        for name, duel in (
            ("against_best", standing.against_best),
            ("against_reference", standing.against_reference),
        )
    }
    return {
        "norm": asdict(standing.norm),
        **against,
        "reach": [asdict(reach) for reach in standing.reach],
        "speed_up": [asdict(found) for found in standing.speed_up],
        "ratios_to_reference": list(standing.ratios),
    }


def write_csv(comparison: Comparison, file: TextIO) -> None:
    """A row per group and axis, a column per number; empty where there is none."""
    rows = [
        _row(comparison, on, standing)
        for on in comparison.axes.values()
        for standing in on.standings
    ]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in _finite(row).items()} for row in rows)


def _row(comparison: Comparison, on: AxisComparison, standing: GroupResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": standing.group.name,
        "axis": on.axis,
        "budget": on.budget,
        "seeds": standing.norm.count,
    }
    row |= {f"norm_{k}": v for k, v in asdict(standing.norm).items() if k != "count"}
    row |= {f"{name}_at_end": at_end(standing.group, name).mean for name in AT_END}
    for name in ("pairs", "ratio", "ratio_low", "ratio_high", "probability", "p_value"):
        duel = standing.against_reference
        key = "count" if name == "pairs" else name
        row[f"{name}_to_reference"] = None if duel is None else getattr(duel, key)
    for number, threshold in enumerate(comparison.thresholds):
        reach = standing.reach[number]
        row |= {f"reached_{threshold:g}": reach.reached, f"cost_{threshold:g}": reach.median}
        found = standing.speed_up[number] if standing.speed_up else None
        for name in ("factor", "low", "high", "bound"):
            row[f"speed_up_{threshold:g}_{name}"] = None if found is None else getattr(found, name)
    return row


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
