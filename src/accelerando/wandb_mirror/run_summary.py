"""Values that a whole run is judged by, kept while its rows come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accelerando.runs.record import Row


class RunSummary:
    """Minimum norm, last and best accuracy, and when the norm first passed each threshold.

    Args:
        thresholds: of the full gradient norm, each above 0.

    >>> summary = RunSummary([0.5])
    >>> summary.add({"step": 7, "examples": 56, "full_gradient_norm": 0.4})
    {'minimum_full_gradient_norm': 0.4, 'steps_to_norm_0_5': 7, 'examples_to_norm_0_5': 56}
    >>> summary.add({"step": 9, "examples": 72, "full_gradient_norm": 0.6})
    {}
    """

    def __init__(self, thresholds: Sequence[float] = ()) -> None:
        # no full stop in a key: W&B's filters take what follows it for a part
        self._thresholds = {f"norm_{value:g}".replace(".", "_"): value for value in thresholds}
        self.values: dict[str, Any] = {}

    def add(self, row: Row) -> dict[str, Any]:
        """Take the next row of the run; return what it changed."""
        found: dict[str, Any] = {}
        if (norm := _number(row.get("full_gradient_norm"))) is not None:
            found["minimum_full_gradient_norm"] = min(
                norm, self.values.get("minimum_full_gradient_norm", norm)
            )
            for name, threshold in self._thresholds.items():
                if norm <= threshold and f"steps_to_{name}" not in self.values:
                    found[f"steps_to_{name}"] = row["step"]
                    found[f"examples_to_{name}"] = row["examples"]
        if (accuracy := _number(row.get("test_accuracy"))) is not None:
            found["last_test_accuracy"] = accuracy
            found["best_test_accuracy"] = max(
                accuracy, self.values.get("best_test_accuracy", accuracy)
            )
        changed = {key: value for key, value in found.items() if self.values.get(key) != value}
        self.values |= changed
        return changed


def _number(value: Any) -> float | None:
    """A measured value; None where there is none, or none that is finite."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None
