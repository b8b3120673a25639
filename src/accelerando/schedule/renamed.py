"""Classes that had another name in earlier versions.

Run ids hash the ``_target_`` of each shape and run folders record it, so both names must keep
meaning the same shape.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "accelerando.schedule.Diminishing": "accelerando.schedule.InverseSqrt",
    "accelerando.schedule.Listed": "accelerando.schedule.PiecewiseConstant",
    "accelerando.schedule.ListedBatch": "accelerando.schedule.PiecewiseConstantBatch",
    "accelerando.schedule.Scaled": "accelerando.schedule.BatchScaled",
}
"""Current name of each ``_target_``, by its former name."""

_FORMER = {current: former for former, current in RENAMED.items()}


def current_target(target: Any) -> Any:
    """The name that a recorded ``_target_`` has today.

    >>> current_target("accelerando.schedule.Diminishing")
    'accelerando.schedule.InverseSqrt'
    """
    return RENAMED.get(target, target) if isinstance(target, str) else target


def former_target(target: Any) -> Any:
    """The name that a ``_target_`` was first released under; run ids are hashes of it.

    >>> former_target("accelerando.schedule.InverseSqrt")
    'accelerando.schedule.Diminishing'
    """
    return _FORMER.get(target, target) if isinstance(target, str) else target
