"""What a scheduler is called: by how it departs from the usual, whatever it is compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from accelerando.schedule.cases import CASES
from accelerando.schedule.stages import stage_length, stair_length, warmup_length

Settings = Mapping[str, Any]
"""Settings of a run, each under its full name: ``scheduler.batch_size.initial``."""

_SHAPES = {
    **{name: (case.batch_size, case.learning_rates[0]) for name, case in CASES.items()},
    "increase_constant": ("ExponentialBatch", "Constant"),
    "small_constant": ("ConstantBatch", "Constant"),
    "small_decay": ("ConstantBatch", "Cosine"),
    "small_increase": ("ConstantBatch", "Exponential"),
    "small_warmup": ("ConstantBatch", "WarmupConstant"),
    "seesaw": ("Seesaw", "ConstantBatch", "Cosine"),
}
"""Shapes that our schedulers have unless a run says otherwise; those of others are always named."""

_NUMBERS: Mapping[str, Any] = {
    "learning_rate.initial": 0.1,
    "learning_rate.minimum": 0.0,
    "learning_rate.power": 2.0,
    "equivalence": "sgd",
}
"""Numbers of the shapes unless a run says otherwise; those that are not here are not set."""
_BEGIN_SMALL = ("small_constant", "small_decay", "small_increase", "small_warmup", "seesaw")
"""Whose constant batch is as small as others begin."""

_LENGTHS: Mapping[str, Callable[[int], int]] = {
    "interval": stage_length,
    "warmup_epochs": warmup_length,
    "warmup_interval": stair_length,
}
"""Lengths in epochs that follow the length of the run unless a run says otherwise."""


class NamePart(NamedTuple):
    """What one ``--by`` says of one run."""

    order: tuple[Any, ...]
    name: str
    label: str


def scheduler_part(config: Settings, epochs: int) -> NamePart:
    """The name of a run's scheduler, with the shapes and numbers that it departs in.

    The paper's cases come first, numbers in their order.

    Args:
        config: settings of the run.
        epochs: its length.
    """
    name = str(config.get("scheduler.name", "scheduler"))
    usual = {"Scheduler", *_SHAPES.get(name, ())}
    told = [word for word in _classes(config) if word not in usual]
    given = _departures(name, config, epochs)
    words = [f"{key}={value}" for key, value in given.items()]
    case = list(CASES).index(name) if name in CASES else len(CASES)
    order = (case, name, tuple(told), tuple((key, sort_key(v)) for key, v in given.items()))
    return NamePart(order, " ".join([name, *told, *words]), _label(name, config, told, words))


def _label(name: str, config: Settings, told: list[str], words: list[str]) -> str:
    """As short as a legend needs it."""
    if name in CASES:
        if not told and not words:
            return CASES[name].label
        rate = class_name(config.get("scheduler.learning_rate._target_"))
        # the shape of the rate always, for the case's own words say less
        shapes = [spaced_name(word) for word in told if word != rate] + [spaced_name(rate)]
        return ", ".join(
            [f"({CASES[name].number}) {', '.join(shapes)}", *map(short_setting, words)]
        )
    shapes = [spaced_name(word) + ("" if word.endswith("Batch") else " rate") for word in told]
    return ", ".join(
        [f"{name}{':' if shapes else ''} {', '.join(shapes)}".strip(), *map(short_setting, words)]
    )


def _classes(config: Settings) -> list[str]:
    targets = sorted(key for key in config if re.match(r"scheduler\.(.*\.)?_target_$", key))
    return [class_name(config[target]) for target in targets]


def _departures(name: str, config: Settings, epochs: int) -> dict[str, Any]:
    """Settings that are not as they usually are, by their names within the scheduler."""
    constant = class_name(config.get("scheduler.batch_size._target_")) == "ConstantBatch"
    small = name in _BEGIN_SMALL or not constant
    numbers = {**_NUMBERS, "batch_size.initial": 8 if small else 128}
    found = {}
    for key, value in sorted(config.items()):
        section, _, setting = key.partition(".")
        leaf = setting.rpartition(".")[2]
        if section != "scheduler" or leaf in ("name", "_target_") or value is None:
            continue
        usual = _LENGTHS[leaf](epochs) if leaf in _LENGTHS else numbers.get(setting)
        if value != usual:
            found[setting] = _plain(setting, value)
    return found


def _plain(setting: str, value: Any) -> Any:
    """1 and 1.0 are one rate, and one name."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if setting.startswith("learning_rate.") and setting.rpartition(".")[2] not in _LENGTHS:
        return float(value)
    return int(value) if float(value).is_integer() else value


def sort_key(value: Any) -> tuple[Any, ...]:
    """Numbers in their order, then words in theirs, then nothing."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if number else (1 + (value is None), 0, str(value))


def class_name(target: Any) -> str:
    """``accelerando.schedule.Cosine`` without where it is from."""
    return str(target).rpartition(".")[2]


def spaced_name(name: str) -> str:
    """``WarmupCosine`` as a reader would write it.

    >>> spaced_name("WarmupCosine"), spaced_name("LinearBatch")
    ('warm-up cosine', 'linear batch')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return spaced.lower().replace("warmup", "warm-up")


def short_setting(word: str) -> str:
    """``learning_rate.peak=0.5`` without what a reader can do without.

    >>> short_setting("learning_rate.peak=0.5"), short_setting("batch_size.initial=16")
    ('peak 0.5', 'batch initial 16')
    """
    key, _, value = word.partition("=")
    leaf = key.rpartition(".")[2]
    # both shapes have an initial value, a growth, a final value and an interval
    shared = leaf in ("initial", "growth", "final", "interval", "values", "maximum")
    of = {"batch_size": "batch ", "learning_rate": "rate "}.get(key.split(".")[0], "")
    return f"{of if shared else ''}{leaf} {value}"
