"""Former names of shapes.

Run ids are hashes of the ``_target_`` that a shape was first released under, and run folders record
the ``_target_`` of their time, so former and current names must stay interchangeable.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "accelerando.schedule.Diminishing": "accelerando.schedule.InverseSqrt",
    "accelerando.schedule.Listed": "accelerando.schedule.PiecewiseConstant",
    "accelerando.schedule.ListedBatch": "accelerando.schedule.PiecewiseConstantBatch",
    "accelerando.schedule.Scaled": "accelerando.schedule.BatchScaled",
}
"""Current ``_target_`` of a shape by its former one."""

_FORMER = {current: former for former, current in RENAMED.items()}


def current_target(target: Any) -> Any:
    """Return the current name of a recorded ``_target_``.

    >>> current_target("accelerando.schedule.Diminishing")
    'accelerando.schedule.InverseSqrt'
    """
    return RENAMED.get(target, target) if isinstance(target, str) else target


def former_target(target: Any) -> Any:
    """Return the name that a ``_target_`` was first released under, which run ids are hashes of.

    >>> former_target("accelerando.schedule.InverseSqrt")
    'accelerando.schedule.Diminishing'
    """
    return _FORMER.get(target, target) if isinstance(target, str) else target
