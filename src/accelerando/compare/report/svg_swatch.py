"""A group's look as SVG draws it: its dash, its mark, and the chip that stands beside its name."""

from __future__ import annotations

from accelerando.plotting import GroupStyle

WIDTH = 1.8
"""Of a line, in pixels."""
_PATHS = {
    "": "",
    "s": "M-3.5-3.5h7v7h-7Z",
    "D": "M0-5L5 0L0 5L-5 0Z",
    "P": "M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4Z",
    "X": "M-5-2l3-3l2 2l2-2l3 3l-3 2l3 2l-3 3l-2-2l-2 2l-3-3l3-2Z",
    "*": "M0-6L1.4-1.9H5.7L2.3.7L3.5 4.9L0 2.4L-3.5 4.9L-2.3.7L-5.7-1.9H-1.4Z",
    "h": "M0-5L4.3-2.5V2.5L0 5L-4.3 2.5V-2.5Z",
}
"""Marks around the place 0 0."""


def dasharray(look: GroupStyle) -> str:
    """The dash in pixels.

    >>> dasharray(GroupStyle("#000000", (5.0, 1.5), ""))
    '9 2.7'
    """
    return " ".join(f"{WIDTH * length:.3g}" for length in look.dash)


def mark_path(look: GroupStyle) -> str:
    """Outline of the mark, empty where there is none."""
    return _PATHS[look.mark]


def chip(look: GroupStyle) -> str:
    """A short piece of the group's line."""
    dash = f' stroke-dasharray="{dasharray(look)}"' if look.dash else ""
    line = f'<path d="M0 6H30" stroke="{look.colour}" stroke-width="2.4"{dash}/>'
    mark = f'<path d="{mark_path(look)}" fill="{look.colour}" transform="translate(15 6)"/>'
    return f'<svg class="chip" viewBox="0 0 30 12">{line}{mark if look.mark else ""}</svg>'
