"""What all figures share: the same colour for the same scheduler, files written whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from accelerando.checks import UsageError

CASES = {
    "decay_constant": "(i) constant batch, decaying rate",
    "decay_increase": "(ii) increasing batch, decaying rate",
    "increase_increase": "(iii) increasing batch, increasing rate",
    "warmup_increase": "(iv) increasing batch, warm-up rate",
}
"""The paper's four cases."""

# Okabe and Ito's palette, told apart by colour-blind readers and in print
_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")
_OTHERS = ("#CC79A7", "#56B4E9", "#000000", "#999933", "#882255", "#44AA99")


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each scheduler; the paper's cases have theirs in every figure."""
    fixed = dict(zip(CASES, _COLOURS, strict=True))
    others = [name for name in names if name not in fixed]
    return fixed | {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the file's ending names.

    Raises:
        UsageError: no such format.
    """
    form = path.suffix[1:]
    formats = figure.canvas.get_supported_filetypes()
    if form not in formats:
        raise UsageError(f"{path}: the ending must be one of {', '.join(formats)}")
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=160, format=form)
    temporary.replace(path)
