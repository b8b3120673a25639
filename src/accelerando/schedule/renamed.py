"""Former names of shapes.

Run ids hash the ``_target_`` under which a shape was first released, and older run folders record
former names, so former and current names must stay interchangeable.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "accelerando.schedule.Diminishing": "accelerando.schedule.InverseSqrt",
    "accelerando.schedule.Listed": "accelerando.schedule.PiecewiseConstant",
    "accelerando.schedule.ListedBatch": "accelerando.schedule.PiecewiseConstantBatch",
    "accelerando.schedule.Scaled": "accelerando.schedule.BatchScaled",
}
"""Maps the former ``_target_`` of a shape to its current one."""

_FORMER = {current: former for former, current in RENAMED.items()}


def current_target(target: Any) -> Any:
    """Return the current name of a recorded ``_target_``.

    >>> current_target("accelerando.schedule.Diminishing")
    'accelerando.schedule.InverseSqrt'
    """
    return RENAMED.get(target, target) if isinstance(target, str) else target


def former_target(target: Any) -> Any:
    """Return the first released name of a ``_target_``, which is the one that run ids hash.

    >>> former_target("accelerando.schedule.InverseSqrt")
    'accelerando.schedule.Diminishing'
    """
    return _FORMER.get(target, target) if isinstance(target, str) else target
