"""Runs that belong together, their names, and which run of one is the pair of which of another."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from accelerando.compare.choose import LeftOut, matters
from accelerando.compare.load import Run, differing, under
from accelerando.plotting import CASES

Block = tuple[int, tuple[Hashable, ...]]
"""Seed, and all else that makes a run comparable with its pair in another group."""

_USUAL = {
    "decay_constant": "Cosine",
    "decay_increase": "Cosine",
    "increase_increase": "Exponential",
    "warmup_increase": "WarmupConstant",
}
"""Shape of the learning rate that a case has unless it says otherwise."""
_MISSING = "not set"


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one.

    Args:
        name: tells it from the others, the same in every comparison: it has a colour by it.
        label: what figures call it.
        members: its runs by seed and by whatever else differs within the group.
        mixed: settings that differ within the group besides the seed.
    """

    name: str
    label: str
    members: dict[Block, Run]
    mixed: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(self.members.values())

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for seed, _ in self.members})


class _Part(NamedTuple):
    """What one ``--by`` says of one run."""

    order: tuple[Any, ...]
    name: str
    label: str


def group(runs: Sequence[Run], by: Sequence[str] = ("scheduler",)) -> list[Group]:
    """Runs by settings, or by sections of settings such as ``scheduler``.

    Groups of a section are told apart by its name and by whatever else differs in it. The paper's
    cases come first, numbers in their order.
    """
    return split(runs, by)[0]


def split(runs: Sequence[Run], by: Sequence[str]) -> tuple[list[Group], list[LeftOut]]:
    """As ``group``, and the runs that repeat another of their group."""
    columns = [_parts(runs, key) for key in by]
    others = [name for name in matters(runs) if not under(name, by)]
    found: dict[tuple[_Part, ...], dict[Block, Run]] = {}
    repeated = []
    for number, run in enumerate(runs):
        parts = tuple(column[number] for column in columns)
        members = found.setdefault(parts, {})
        block = (run.state.seed, tuple(str(run.config.get(name)) for name in others))
        if block in members:
            repeated.append(LeftOut(run, f"repeats {members[block].path}"))
        else:
            members[block] = run
    groups = []
    for parts in sorted(found, key=lambda parts: [part.order for part in parts]):
        members = found[parts]
        mixed = [name for name in matters(list(members.values())) if not under(name, by)]
        name = ", ".join(part.name for part in parts)
        label = ", ".join(part.label for part in parts)
        groups.append(Group(name, label, members, tuple(mixed)))
    return groups, repeated


def _parts(runs: Sequence[Run], key: str) -> list[_Part]:
    if any(name.startswith(f"{key}.") for run in runs for name in run.config):
        return _sections(runs, key)
    return [_leaf(key, run.config.get(key)) for run in runs]


def _leaf(key: str, value: Any) -> _Part:
    text = _MISSING if value is None else str(value)
    return _Part(_ordered(value), f"{key}={text}", f"{_short(key, 2)} = {text}")


def _ordered(value: Any) -> tuple[Any, ...]:
    """Numbers in their order, then words in theirs, then nothing."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if number else (1 + (value is None), 0, str(value))


def _sections(runs: Sequence[Run], key: str) -> list[_Part]:
    """A name for each run, no longer than it takes to tell it from runs with another section."""
    by_name: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        by_name.setdefault(str(run.config.get(f"{key}.name", key)), []).append(number)
    parts: dict[int, _Part] = {}
    for name, numbers in by_name.items():
        members = [runs[number] for number in numbers]
        shapes: dict[tuple[str, ...], list[int]] = {}
        targets = [kind for kind in differing(members, [key]) if kind.endswith("_target_")]
        for number in numbers:
            words = tuple(_class(runs[number].config.get(target)) for target in targets)
            shapes.setdefault(words, []).append(number)
        for words, alike in shapes.items():
            settings = [
                setting
                for setting in differing([runs[number] for number in alike], [key])
                if not setting.endswith("_target_")
            ]
            alone = len(shapes) == 1 and not settings
            for number in alike:
                parts[number] = _named(name, runs[number], words, settings, alone=alone)
    return [parts[number] for number in range(len(runs))]


def _class(target: Any) -> str:
    return str(target).rpartition(".")[2]


def _named(
    name: str, run: Run, classes: Sequence[str], settings: Sequence[str], *, alone: bool
) -> _Part:
    rate = _class(run.config.get("scheduler.learning_rate._target_"))
    usual = _USUAL.get(name)
    told = [word for word in classes if word != usual]
    given = {key: run.config[key] for key in settings if run.config.get(key) is not None}
    words = [f"{key.partition('.')[2]}={value}" for key, value in given.items()]
    identity = " ".join([name, *told, *words])
    case = list(CASES).index(name) if name in CASES else len(CASES)
    order = (case, tuple(told), tuple(_ordered(value) for value in given.values()), identity)
    if name not in CASES:
        shown = ", ".join([" ".join([name, *map(_words, classes)]), *map(_last, words)])
    elif alone:
        shown = CASES[name] if rate == usual else f"{CASES[name]}: {_words(rate)}"
    else:
        shapes = list(map(_words, classes)) or [_words(rate)]
        shown = ", ".join([" ".join([CASES[name].partition(" ")[0], *shapes]), *map(_last, words)])
    return _Part(order, identity, shown)


def _words(name: str) -> str:
    """``WarmupCosine`` as a reader would write it."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Batch"))
    return spaced.lower().replace("warmup", "warm-up")


def _short(key: str, words: int) -> str:
    return ".".join(key.split(".")[-words:])


def _last(word: str) -> str:
    """``learning_rate.peak=0.5`` without what a reader can do without."""
    key, _, value = word.partition("=")
    last = _short(key, 1)
    # both shapes have an initial value, a growth, a final value and an interval
    shared = last in ("initial", "growth", "final", "interval", "values", "maximum")
    of = {"batch_size": "batch ", "learning_rate": "rate "}.get(key.split(".")[0], "")
    return f"{of if shared else ''}{last} {value}"
