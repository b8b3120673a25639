"""What all figures share: the same colour for the same scheduler, files written whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from accelerando.checks import UsageError

CASES = {
    "decay_constant": "(i) constant batch, decaying rate",
    "decay_increase": "(ii) increasing batch, decaying rate",
    "increase_increase": "(iii) increasing batch, increasing rate",
    "warmup_increase": "(iv) increasing batch, warm-up rate",
}
"""The paper's four cases."""

_BESIDES = (
    "increase_constant", "small_decay", "small_increase", "small_warmup", "small_constant", "seesaw"
)  # fmt: skip
"""The controls and extra schedulers that are drawn beside them."""

# Okabe and Ito's for the cases; all are told apart by colour-blind readers
_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")
_OTHERS = ("#000000", "#56B4E9", "#785EF0", "#8B0000", "#F0A3D0", "#332288", "#4800F0", "#B2DF8A")


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each scheduler, in every figure the same.

    The paper's cases and the controls have theirs; another name has one by its letters, and the
    next free one where two of a figure would share it.

    >>> colours(["mine", "warmup_increase"])["mine"] == colours(["mine"])["mine"]
    True
    """
    fixed = dict(zip((*CASES, *_BESIDES), (*_COLOURS, *_OTHERS), strict=False))
    spare = [fixed[case] for case in CASES if case not in names]
    palette, found = [*_OTHERS, *spare], dict(fixed)
    # sorted, so that a figure's colours do not depend on its order
    for name in sorted(set(names) - set(fixed)):
        first = int.from_bytes(sha256(name.encode()).digest()[:4]) % len(_OTHERS)
        turns = palette[first : len(_OTHERS)] + palette[:first] + palette[len(_OTHERS) :]
        taken = Counter(found[other] for other in set(names) if other in found)
        found[name] = min(turns, key=taken.__getitem__)  # of those used least the first
    return found


def dashes(names: Sequence[str], palette: Mapping[str, str]) -> dict[str, str]:
    """A style of line for each scheduler: solid, and others for those that share a colour.

    >>> dashes(["a", "b"], {"a": "#000000", "b": "#000000"})
    {'a': 'solid', 'b': 'dashed'}
    """
    seen: Counter[str] = Counter()
    found = {}
    for name in names:
        found[name] = _DASHES[seen[palette[name]] % len(_DASHES)]
        seen[palette[name]] += 1
    return found


_DASHES = ("solid", "dashed", "dotted", "dashdot")


def check_format(form: str) -> None:
    """Raise UsageError where figures cannot be written as ``form``: png, svg, pdf, ..."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if form not in formats:
        raise UsageError(f"the ending must be one of {', '.join(formats)}, got {form!r}")


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the file's ending names.

    Raises:
        UsageError: no such format.
    """
    form = path.suffix[1:]
    try:
        check_format(form)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=160, format=form)
    temporary.replace(path)
