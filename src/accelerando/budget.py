"""The length of a run from a budget of steps."""

from __future__ import annotations

import copy
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from accelerando.build import bind
from accelerando.checks import UsageError, check_integer
from accelerando.config import register_schema

MAX_EPOCHS = 100_000
"""Longest run that a budget of steps may ask for, so that the search ends soon."""


def register() -> None:
    """Register with Hydra and OmegaConf everything that composing a configuration needs."""
    register_schema()
    OmegaConf.register_new_resolver("epochs_within", _epochs_within, replace=True)


def _epochs_within(steps: int | None, epochs: int, *, _root_: DictConfig) -> int:
    """Return the length of a run: ``epochs`` unless a budget of steps is given.

    A schedule is defined relative to the length of its run, so each number of epochs is tried with
    the schedule as it would be in a run of that length.
    """
    if steps is None:
        return epochs
    try:
        check_integer("steps", steps, 1)
    except ValueError as error:
        raise UsageError(str(error)) from error
    config = copy.deepcopy(_root_)
    examples = config.dataset.examples

    def total_steps(length: int) -> int:
        with flag_override(config, "readonly", False):
            config.epochs = length
        target: Any = OmegaConf.to_container(config.scheduler, resolve=True)
        del target["name"]
        return bind(target, examples=examples, epochs=length).total_steps

    def fits(length: int) -> bool:
        try:
            return total_steps(length) <= steps
        except UsageError:  # shorter than a stage or a warm-up
            return length < epochs

    low, high = 0, 1
    while high <= steps and fits(high):  # every epoch has at least one step
        low, high = high, 2 * high
        if high > MAX_EPOCHS:
            raise UsageError(f"steps={steps} is more than {MAX_EPOCHS} epochs: give fewer")
    high = min(high, steps + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    try:
        shortest = total_steps(max(low, 1))
    except UsageError as error:
        raise UsageError(f"steps={steps} is too few for this schedule: {error}") from error
    if shortest > steps:
        raise UsageError(f"steps must be at least {shortest}, the steps of one epoch, got {steps}")
    return low
