"""Summary values of a run: minima, best values and the time to reach each threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accelerando.runs.record import Row


class RunSummary:
    """Minimum norm, last and best accuracy, and when the norm first reached each threshold.

    Args:
        thresholds: of the full gradient norm, each above 0.

    >>> summary = RunSummary([0.5])
    >>> summary.add({"step": 7, "examples": 56, "full_gradient_norm": 0.4})
    {'minimum_full_gradient_norm': 0.4, 'steps_to_norm_0_5': 7, 'examples_to_norm_0_5': 56}
    >>> summary.add({"step": 9, "examples": 72, "full_gradient_norm": 0.6})
    {}
    """

    def __init__(self, thresholds: Sequence[float] = ()) -> None:
        # W&B's filters read a dot in a key as a path separator
        self._thresholds = {f"norm_{value:g}".replace(".", "_"): value for value in thresholds}
        self.values: dict[str, Any] = {}

    def add(self, row: Row) -> dict[str, Any]:
        """Update the summary with the next row of the run; return the values that changed."""
        before, values = self.values.copy(), self.values
        if (norm := _finite(row.get("full_gradient_norm"))) is not None:
            lowest = values.get("minimum_full_gradient_norm", norm)
            values["minimum_full_gradient_norm"] = min(norm, lowest)
            for name, threshold in self._thresholds.items():
                if norm <= threshold:
                    values.setdefault(f"steps_to_{name}", row["step"])
                    values.setdefault(f"examples_to_{name}", row["examples"])
        if (accuracy := _finite(row.get("test_accuracy"))) is not None:
            values["last_test_accuracy"] = accuracy
            values["best_test_accuracy"] = max(accuracy, values.get("best_test_accuracy", accuracy))
        return {key: value for key, value in values.items() if before.get(key) != value}


def _finite(value: Any) -> float | None:
    """Return a finite number as it is, and anything else as None."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None
