"""The report: one file that opens in any browser, without a network."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from accelerando.atomic_write import write_atomic
from accelerando.compare.comparison import Comparison
from accelerando.compare.report import blocks
from accelerando.compare.report.data import chart_data
from accelerando.compare.summary_text import caveats, question

_HERE = Path(__file__).parent


def write_report(
    comparison: Comparison, path: Path, *, axis: str = "epochs", raw: bool = False
) -> None:
    """Write the report; links in it are relative to where it is.

    Its figures are drawn by a script of its own from data inside it; the words and tables are
    there without the script. A content security policy keeps it from asking any network.
    """
    write_atomic(path, page(comparison, path.parent, axis=axis, raw=raw).encode())


def page(comparison: Comparison, folder: Path, *, axis: str = "epochs", raw: bool = False) -> str:
    """The report as text.

    Args:
        comparison: what was found.
        folder: where the report will be.
        axis: what it opens on.
        raw: whether it opens with norms as they were measured, not their minimum so far.
    """
    parts = {
        "title": escape(comparison.title),
        "style": (_HERE / "page.css").read_text(),
        "question": escape(question(comparison)),
        "answers": blocks.answers(comparison, axis),
        "switch": blocks.switch(comparison, axis),
        "lowest": "" if raw else " checked",
        "raw": " checked" if raw else "",
        "cautions": blocks.cautions(caveats(comparison)),
        "tables": blocks.tables(comparison, axis),
        "compared": blocks.compared(comparison),
        "runs": blocks.runs(comparison, folder),
        "left_out": blocks.left_out(comparison, folder),
        "data": _inside_script(json.dumps(chart_data(comparison, axis), separators=(",", ":"))),
        "script": (_HERE / "chart.js").read_text() + (_HERE / "page.js").read_text(),
    }
    text = (_HERE / "page.html").read_text()
    # split first: what is put in may itself hold the marks
    pieces = text.split("{{")
    return pieces[0] + "".join(
        parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:])
    )


def _inside_script(text: str) -> str:
    """JSON that cannot end the script element that it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
