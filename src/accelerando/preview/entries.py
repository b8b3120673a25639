"""From words of a command line to the schedules they describe, one entry for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig

from accelerando.composition import runs_of
from accelerando.config import build, plan_of
from accelerando.schedule import Plan, Scheduler


class Entry(NamedTuple):
    """A schedule under the name that tells it from the others."""

    name: str
    scheduler: Scheduler
    plan: Plan
    interval: int
    """Epochs in a stage."""


def entries(words: Sequence[str], examples: int | None) -> list[Entry]:
    """The schedules of ``python train.py -m WORDS``; runs that share a schedule give one entry.

    Args:
        words: overrides of train.py.
        examples: training examples, in place of the dataset's.

    Raises:
        UsageError: a schedule cannot be built, or does not fit its run.
    """
    more = [] if examples is None else [f"dataset.examples={examples}"]
    configs = _distinct(runs_of([*words, *more]))
    names = _names(configs)
    return [
        Entry(name, build(config.scheduler), plan_of(config), _interval(config))
        for name, config in zip(names, configs, strict=True)
    ]


def _key(config: DictConfig) -> tuple[Any, ...]:
    return (str(config.scheduler), config.epochs, config.dataset.examples)


def _distinct(configs: Sequence[DictConfig]) -> list[DictConfig]:
    return list({_key(config): config for config in configs}.values())


def _names(configs: Sequence[DictConfig]) -> list[str]:
    """The scheduler's name, with what differs where two would share it."""
    names = [str(config.scheduler.name) for config in configs]
    if len(set(names)) == len(names):
        return names
    flat = [_flat(config) for config in configs]
    differing = sorted(key for key in flat[0] if len({str(f.get(key)) for f in flat}) > 1)
    return [
        " ".join([name, *(f"{key}={f[key]}" for key in differing if key in f)])
        for name, f in zip(names, flat, strict=True)
    ]


def _flat(config: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"epochs": config.epochs, "examples": config.dataset.examples}
    for group in ("batch_size", "learning_rate"):
        for key, value in config.scheduler.get(group, {}).items():
            short = str(value).rpartition(".")[2] if key == "_target_" else value
            found[f"{group}.{key}".removesuffix("._target_")] = short
    return found


def _interval(config: DictConfig) -> int:
    interval = config.scheduler.batch_size.get("interval")
    return int(interval) if interval else max(1, config.epochs // 10)
