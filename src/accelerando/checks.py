"""Checks of values; their messages state what was given and what is allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real


class UsageError(Exception):
    """An error the user can fix, reported in one line without a traceback."""


def check_number(name: str, value: object) -> float:
    """Return ``value`` as a float; raise ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def check_at_least(name: str, value: object, minimum: float) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least ``minimum``."""
    if check_number(name, value) < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    if check_number(name, value) <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")


def check_integer(name: str, value: object, minimum: int, *, optional: bool = False) -> None:
    """Raise ValueError unless ``value`` is an integer of at least ``minimum``.

    None is allowed if the value is ``optional``.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
