"""Colours, line styles and legends of all figures, and saving figures to files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from accelerando.atomic_write import open_atomic
from accelerando.checks import UsageError
from accelerando.scheduler_names import display_values, variant_markers

PALETTE = ("#000000", "#56B4E9", "#785EF0", "#8B0000", "#F0A3D0", "#332288", "#4800F0", "#B2DF8A")
"""Colours of schedulers whose YAML file does not give one; safe for colour-blind readers."""
MARKERS = ("s", "D", "P", "X", "*", "h")


class GroupStyle(NamedTuple):
    """How a group of runs is drawn: colour and dashes of its scheduler, marker of its variant.

    Args:
        colour: hexadecimal.
        dash: lengths on and off in line widths; empty for a solid line.
        mark: a matplotlib marker; empty for the scheduler itself.
    """

    colour: str
    dash: tuple[float, ...]
    mark: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments for a matplotlib line."""
        return {"color": self.colour, "ls": (0, self.dash) if self.dash else "solid"}

    def marks(self, points: int, number: int) -> dict[str, Any]:
        """Return matplotlib arguments that place a few markers along a line of ``points`` points.

        The index of the line in its figure, ``number``, separates the markers of neighbours.
        """
        spacing = max(1, points // 7)
        places = (number * spacing // 3 % spacing, spacing)
        return {"marker": self.mark, "ms": 6.5, "mec": "white", "mew": 0.3, "markevery": places}


def group_styles(names: Sequence[str]) -> dict[str, GroupStyle]:
    """Return the style of each group, which is the same in every figure.

    Packaged schedulers have the colours, dashes and markers in their YAML files, others get theirs
    from a hash of their name. A group whose style is already in use takes the next free one. Each
    name starts with the name of the scheduler.

    >>> alone, both = group_styles(["mine"]), group_styles(["mine", "warmup_increase"])
    >>> alone["mine"] == both["mine"]
    True
    """
    styles: dict[str, GroupStyle] = {}
    colours, dashes, markers = group_colours(names), display_values("dash"), variant_markers()
    # sorted, so that styles do not depend on the order of the groups; packaged markers go first
    for name in sorted(names, key=lambda name: (_differences(name) not in markers, name)):
        dash = tuple(dashes.get(_scheduler(name), ()))
        options = [GroupStyle(colours[name], dash, mark) for mark in _marker_options(name)]
        usage = Counter(styles.values())
        styles[name] = min(options, key=usage.__getitem__)  # the first of the least used
    return styles


def group_colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each group; groups of one scheduler share theirs."""
    schedulers, colours = set(map(_scheduler, names)), display_values("colour")
    for scheduler in sorted(schedulers - set(colours)):
        usage = Counter(colours[other] for other in schedulers if other in colours)
        colours[scheduler] = min(_by_hash(scheduler, PALETTE), key=usage.__getitem__)
    return {name: colours[_scheduler(name)] for name in names}


def _marker_options(name: str) -> list[str]:
    """Return the marker of a group, followed by its alternatives."""
    differences = _differences(name)
    if not differences:
        return ["", *MARKERS]
    preferred = variant_markers().get(differences, _by_hash(differences, MARKERS)[0])
    if preferred not in MARKERS:
        raise UsageError(f"a marker must be one of {', '.join(MARKERS)}, got {preferred!r}")
    return _rotate(MARKERS, MARKERS.index(preferred))


def _scheduler(name: str) -> str:
    return name.partition(" ")[0].removeprefix("scheduler.name=").rstrip(",")


def _differences(name: str) -> str:
    return name.partition(" ")[2]


def _by_hash(text: str, options: Sequence[str]) -> list[str]:
    """Return the option that a hash of the text selects, followed by its alternatives."""
    number = int.from_bytes(sha256(text.encode()).digest()[:4])
    return _rotate(options, number % len(options))


def _rotate(options: Sequence[str], first: int) -> list[str]:
    return [*options[first:], *options[:first]]


def add_legend(figure: Figure, panel: Axes) -> None:
    """Add one legend for all panels, below them."""
    handles, labels = panel.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 60 else 2
    # handles long enough for a dash pattern and a marker
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False,
                  handlelength=4)  # fmt: skip


def check_format(extension: str) -> None:
    """Raise UsageError if figures cannot be saved in the format, such as png, svg or pdf."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if extension not in formats:
        raise UsageError(f"the ending must be one of {', '.join(formats)}, got {extension!r}")


def save_figure(figure: Figure, path: Path) -> None:
    """Save the figure atomically, in the format of the extension; create its folder if missing.

    Raises:
        UsageError: the format is not supported.
    """
    check_format(path.suffix[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        figure.savefig(file, dpi=160, format=path.suffix[1:])
