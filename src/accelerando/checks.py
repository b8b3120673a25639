"""Checks of settings: each failure says what was given, what is allowed and what to do."""

from __future__ import annotations

import math
from numbers import Integral, Real


class UsageError(Exception):
    """A mistake of the user's, told in one line; no traceback helps with it."""


def number(name: str, value: object) -> float:
    """Return ``value`` where it is a finite number, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def at_least(name: str, value: object, minimum: float) -> None:
    """Raise ValueError where ``value`` is not a finite number of at least ``minimum``."""
    if number(name, value) < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {value!r}")


def positive(name: str, value: object) -> None:
    """Raise ValueError where ``value`` is not a finite number above 0."""
    if number(name, value) <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")


def whole(name: str, value: object, minimum: int) -> None:
    """Raise ValueError where ``value`` is not a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")


def stage_fits(interval: int, epochs: int) -> None:
    """Raise ValueError where a stage of ``interval`` epochs is longer than the run."""
    if interval > epochs:
        raise ValueError(
            f"interval must be at most the length of the run ({epochs} epochs), got {interval}"
        )
