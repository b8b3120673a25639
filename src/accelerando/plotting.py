"""What all figures share: the same colour for the same scheduler, files written whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from accelerando.atomic_write import open_atomic
from accelerando.checks import UsageError
from accelerando.schedule.cases import CASES

_BESIDES = (
    "increase_constant", "small_decay", "small_increase", "small_warmup", "small_constant", "seesaw"
)  # fmt: skip
"""The controls and extra schedulers that are drawn beside them."""

# Okabe and Ito's for the cases; all are told apart by colour-blind readers
_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")
_OTHERS = ("#000000", "#56B4E9", "#785EF0", "#8B0000", "#F0A3D0", "#332288", "#4800F0", "#B2DF8A")

# on and off, in widths of the line: the cases are told apart on grey paper as well
_DASHES = ((1.2, 1.2), (5.0, 1.6), (6.0, 1.6, 1.2, 1.6), ())
_MARKS = ("s", "D", "P", "X", "*", "h")
_PUBLISHED = {
    "Constant": "s",
    "InverseSqrt": "D",
    "Linear": "P",
    "Polynomial": "X",
    "learning_rate.final=0.5": "s",
    "learning_rate.final=1.0": "D",
    "learning_rate.peak=0.5": "s",
    "learning_rate.peak=1.0": "D",
    "WarmupCosine learning_rate.peak=0.2": "P",
    "WarmupCosine learning_rate.peak=0.5": "X",
    "WarmupCosine learning_rate.peak=1.0": "*",
}
"""Marks of the departures that were published, so that those of one case never share theirs."""


class GroupStyle(NamedTuple):
    """How a group is drawn.

    Args:
        colour: by its scheduler.
        dash: by its scheduler: lengths on and off in widths of the line, none for a solid one.
        mark: matplotlib's name for it, by what the scheduler departs in from the usual; none where
            it does not.
    """

    colour: str
    dash: tuple[float, ...]
    mark: str

    @property
    def line(self) -> dict[str, Any]:
        """As matplotlib's lines take it."""
        return {"color": self.colour, "ls": (0, self.dash) if self.dash else "solid"}

    def marks(self, points: int, number: int) -> dict[str, Any]:
        """A few marks along the line of so many points, not where those of its neighbours are."""
        apart = max(1, points // 7)
        first = number * apart // 3 % apart
        places = {"markevery": (first, apart)}
        return {"marker": self.mark, "ms": 6.5, "mec": "white", "mew": 0.3, **places}


def group_styles(names: Sequence[str]) -> dict[str, GroupStyle]:
    """A look for each group, in every figure the same.

    Args:
        names: of the groups, of which the first word is the scheduler's. The paper's cases and the
            controls have colours and dashes of their own; other names have one by their letters.
            Only where two would look the same does the second take the next that is free.

    >>> alone, both = group_styles(["mine"]), group_styles(["mine", "warmup_increase"])
    >>> alone["mine"] == both["mine"]
    True
    """
    found: dict[str, GroupStyle] = {}
    palette = group_colours(names)
    # sorted, so that looks do not depend on the order; what was published chooses first
    for name in sorted(names, key=lambda n: (n.partition(" ")[2] not in _PUBLISHED, n)):
        scheduler, departures = _scheduler(name), name.partition(" ")[2]
        dash = _DASHES[list(CASES).index(scheduler)] if scheduler in CASES else ()
        every = [GroupStyle(palette[name], dash, mark) for mark in _marks(departures)]
        taken = Counter(found.values())
        found[name] = min(every, key=taken.__getitem__)  # of those used least the first
    return found


def _marks(departures: str) -> list[str]:
    """The mark of some departures, and those that stand in for it."""
    if not departures:
        return ["", *_MARKS]
    published = _PUBLISHED.get(departures, _MARKS[_by_letters(departures, len(_MARKS))])
    first = _MARKS.index(published)
    return [*_MARKS[first:], *_MARKS[:first]]


def group_colours(names: Sequence[str]) -> dict[str, str]:
    """The colours of ``group_styles``: groups of one scheduler share theirs."""
    fixed = dict(zip((*CASES, *_BESIDES), (*_COLOURS, *_OTHERS), strict=False))
    schedulers = {name: _scheduler(name) for name in names}
    found = dict(fixed)
    for scheduler in sorted(set(schedulers.values()) - set(fixed)):
        first = _by_letters(scheduler, len(_OTHERS))
        turns = _OTHERS[first:] + _OTHERS[:first]
        taken = Counter(found[other] for other in set(schedulers.values()) if other in found)
        found[scheduler] = min(turns, key=taken.__getitem__)
    return {name: found[scheduler] for name, scheduler in schedulers.items()}


def _scheduler(name: str) -> str:
    return name.partition(" ")[0].removeprefix("scheduler.name=").rstrip(",")


def _by_letters(text: str, choices: int) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:4]) % choices


def check_format(form: str) -> None:
    """Raise UsageError where figures cannot be written as ``form``: png, svg, pdf, ..."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if form not in formats:
        raise UsageError(f"the ending must be one of {', '.join(formats)}, got {form!r}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the file's ending names; its folder is made.

    Raises:
        UsageError: no such format.
    """
    form = path.suffix[1:]
    try:
        check_format(form)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        figure.savefig(file, dpi=160, format=form)
