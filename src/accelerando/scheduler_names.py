"""Names of schedulers in tables, figures, W&B, progress messages and previews.

A scheduler is named after its YAML file and the shapes and values that differ from that file.
Labels, cases and colours are in the YAML files too, under the key ``display``.

Names in W&B are made from overrides instead: they must stay the same when a default changes, since
people find and group their recorded runs by them. A sweep's progress lines name all differing
overrides, whether they concern the scheduler or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from accelerando.packaged_schedulers import (
    SHAPES,
    Settings,
    common_settings,
    default_values,
    defining_files,
    flatten,
    scheduler_files,
    shape_files,
    subsection,
)
from accelerando.schedule.stages import DEFAULT_LENGTHS

DISPLAY = "display"
"""Key, in a scheduler and in its shapes, of settings that only affect how they are shown."""

_SHORT = {"batch_size": "batch", "learning_rate": "rate"}


@dataclass(frozen=True)
class DisplayName:
    """How a group of runs is shown; runs with equal names belong together.

    ``name``, such as ``decay_constant Linear``, is the same in every comparison; ``label``, such as
    ``(i) linear``, is the name in figures; ``order`` is a sort key.
    """

    name: str
    label: str = field(compare=False)
    order: tuple[Any, ...] = field(compare=False)


def scheduler_name(settings: Settings, epochs: int) -> DisplayName:
    """Name the scheduler of a run, including the shapes and values that differ from its defaults.

    Some defaults depend on the length of the run, ``epochs``.
    """
    scheduler = subsection(settings, "scheduler")
    name, case = _name(scheduler), _display(scheduler, "case")
    usual = {"Scheduler", *_classes(defining_files().get(name, {})).values()}
    classes = {key: kind for key, kind in _classes(scheduler).items() if kind not in usual}
    values = _differing_values(scheduler, epochs)
    assignments = [f"{key}={value}" for key, value in values.items()]
    label = _label(scheduler, list(classes), [short_setting(text) for text in assignments])
    value_order = tuple((key, sort_key(value)) for key, value in values.items())
    # the paper's cases come first
    order = (case is None, case or "", name, tuple(classes.values()), value_order)
    return DisplayName(" ".join([name, *classes.values(), *assignments]), label, order)


def paper_case(scheduler: Mapping[str, Any]) -> str | None:
    """Return the paper's case, such as "iv", if the shapes of a (nested) scheduler belong to it."""
    settings = flatten(scheduler)
    case = _display(settings, "case")
    variants = [file for file in scheduler_files() if _name(file) == _name(settings)]
    keys = [f"{shape}._target_" for shape in SHAPES]
    shapes, *known = ([one.get(key) for key in keys] for one in (settings, *variants))
    return None if case is None or (known and shapes not in known) else str(case)


def name_from_overrides(scheduler: str, overrides: Iterable[str]) -> str:
    """Name a scheduler by those overrides of the command line that concern it.

    >>> name_from_overrides("warmup_increase", ["scheduler.learning_rate.peak=0.50", "seed=1"])
    'warmup_increase rate.peak=0.5'
    """
    variant, values = scheduler, {}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "scheduler":
            variant = value.rpartition("/")[2]
        elif key.startswith(("scheduler/", "scheduler.")):
            for shape, short in _SHORT.items():
                key = key.replace(shape, short)
            with suppress(ValueError):
                value = f"{float(value):g}"
            values[key[len("scheduler.") :]] = value
    names = [scheduler] if variant == scheduler else [scheduler, variant]
    return " ".join([*names, *(f"{key}={value}" for key, value in sorted(values.items()))])


def display_values(key: str) -> dict[str, Any]:
    """Return a display setting of the packaged schedulers that have it, by their names."""
    values = {name: _display(file, key) for name, file in defining_files().items()}
    return {name: value for name, value in values.items() if value is not None}


@cache
def variant_markers() -> dict[str, str]:
    """Return the markers of packaged variants, by their differences, such as ``Linear``."""
    markers = {}
    for file in scheduler_files():
        if marker := _display(file, "marker"):
            settings = {f"scheduler.{key}": value for key, value in file.items()}
            markers[scheduler_name(settings, epochs=1).name.partition(" ")[2]] = marker
    return markers


def without_display(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested settings of a scheduler without those that only affect how it is shown."""
    return {
        key: without_display(value) if key in SHAPES and isinstance(value, Mapping) else value
        for key, value in scheduler.items()
        if key != DISPLAY
    }


def is_display(name: str) -> bool:
    """Return whether a setting of a run only affects how its scheduler is shown."""
    section, *rest = name.split(".")
    return section == "scheduler" and DISPLAY in rest[:2]


def sort_key(value: Any) -> tuple[Any, ...]:
    """Return a key that sorts numbers by size, then texts alphabetically, then None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if is_number else (1 + (value is None), 0, str(value))


def class_name(target: Any) -> str:
    """Return the name of the class in a ``_target_``."""
    return str(target).rpartition(".")[2]


def spaced_name(name: str) -> str:
    """Return the name of a class in lower case with spaces.

    >>> spaced_name("WarmupCosine"), spaced_name("LinearBatch")
    ('warm-up cosine', 'linear batch')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("warmup", "warm-up")


def short_setting(assignment: str) -> str:
    """Abbreviate a setting of a scheduler for a label.

    >>> short_setting("learning_rate.peak=0.5"), short_setting("batch_size.initial=16")
    ('peak 0.5', 'batch initial 16')
    """
    key, _, value = assignment.partition("=")
    section, _, leaf = key.rpartition(".")
    # both shapes can have these settings
    ambiguous = leaf in ("initial", "growth", "final", "interval", "values", "maximum")
    shape = _SHORT.get(section.partition(".")[0], "") if ambiguous else ""
    return f"{shape} {leaf} {value}".strip()


def _name(scheduler: Settings) -> str:
    return str(scheduler.get("name", "scheduler"))


def _display(scheduler: Settings, key: str) -> Any:
    """Return a display setting, of the packaged file if the run was recorded without it."""
    # nested under the name of the scheduler, since one scheduler may extend another
    full_key = f"{DISPLAY}.{_name(scheduler)}.{key}"
    packaged = defining_files().get(_name(scheduler), {})
    return scheduler.get(full_key, packaged.get(full_key))


def _label(scheduler: Settings, differing_classes: Sequence[str], values: Sequence[str]) -> str:
    """Return a label that is short enough for the legend of a figure."""
    case, head = _display(scheduler, "case"), _display(scheduler, "label") or _name(scheduler)
    shapes = {key: _class_label(scheduler, key) for key in differing_classes}
    if case and (shapes or values):
        # instead of the label of the case, name the shapes, and always that of the learning rate
        rate = "learning_rate._target_"
        shapes.pop(rate, None)
        head = ", ".join([*shapes.values(), _class_label(scheduler, rate)])
    elif shapes:
        parts = []
        for key, label in shapes.items():
            suffix = _SHORT.get(key.partition(".")[0], "")
            parts.append(label if label.endswith(suffix) else f"{label} {suffix}")
        head = f"{head}: {', '.join(parts)}"
    return ", ".join([f"({case}) {head}" if case else head, *values])


def _class_label(scheduler: Settings, key: str) -> str:
    """Return the label of the class that the setting ``key`` names."""
    section, target = key.rpartition(".")[0], scheduler.get(key)
    files = shape_files(section) if section in SHAPES else []
    packaged = common_settings(file for file in files if file.get("_target_") == target)
    own = subsection(scheduler, section) if section else {}
    label = f"{DISPLAY}.label"
    return str(own.get(label) or packaged.get(label) or spaced_name(class_name(target)))


def _classes(scheduler: Settings) -> dict[str, str]:
    """Return the class names of a scheduler and its shapes, by the setting that holds them."""
    keys = sorted(key for key in scheduler if key.rpartition(".")[2] == "_target_")
    return {key: class_name(scheduler[key]) for key in keys}


def _differing_values(scheduler: Settings, epochs: int) -> dict[str, Any]:
    defaults = default_values(scheduler)
    differing = {}
    for key, value in sorted(scheduler.items()):
        skipped = key.rpartition(".")[2] in ("name", "_target_") or DISPLAY in key.split(".")
        default = defaults.get(key)
        if not skipped and value not in (None, default, _evaluate(default, epochs)):
            differing[key] = _plain(key, value)
    return differing


def _evaluate(default: Any, epochs: int) -> Any:
    """Resolve a default that depends on the length of the run, such as ``${stage:${epochs}}``."""
    match = re.fullmatch(r"\$\{(\w+):\$\{epochs\}\}", str(default))
    return DEFAULT_LENGTHS[match[1]](epochs) if match and match[1] in DEFAULT_LENGTHS else default


def _plain(key: str, value: Any) -> Any:
    """Return the same number for 1 and 1.0, which would otherwise give two names."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if key.startswith("learning_rate.") and not key.endswith(("interval", "epochs")):
        return float(value)
    return int(value) if float(value).is_integer() else value
