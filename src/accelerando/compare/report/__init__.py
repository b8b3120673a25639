"""The HTML report of a comparison: one file that opens in any browser, without a network."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from accelerando.atomic_write import write_atomic
from accelerando.compare import formatting, summary_text, tables
from accelerando.compare.align import min_norm_at
from accelerando.compare.comparison import Comparison
from accelerando.compare.load import Run, nested
from accelerando.compare.report.chart_data import PLOTLY_MARKERS, chart_data, dash_lengths
from accelerando.plotting import group_styles
from accelerando.scheduler_names import is_display

_HERE = Path(__file__).parent
_SHARED_SETTINGS = {
    "model": ("model.name",),
    "data": ("dataset.name", "dataset.examples"),
    "budget in epochs": ("epochs",),
    "yardstick": ("measure.chunk", "measure.batch_norm", "measure.dtype"),
    "optimizer": ("optimizer.momentum", "optimizer.weight_decay"),
}
"""Settings that all runs should share, by their heading in the report."""


def write_report(
    comparison: Comparison, path: Path, *, axis: str = "epochs", raw: bool = False
) -> None:
    """Write the report to ``path``, see ``render``.

    The figures are drawn by an inlined copy of plotly.js from data in the page; text and tables
    need no script. A content security policy forbids network requests.
    """
    write_atomic(path, render(comparison, path.parent, axis=axis, raw=raw).encode())


def render(comparison: Comparison, folder: Path, *, axis: str = "epochs", raw: bool = False) -> str:
    """Return the report as HTML.

    Args:
        comparison: what to report.
        folder: the report's folder.
        axis: the axis shown first.
        raw: show norms as measured first, not their minimum so far.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    several = len(comparison.groups) > 1
    return environment.get_template("page.html").render(
        comparison=comparison,
        axis=axis,
        raw=raw,
        figures=["norm", "batch", "rate", "loss", "accuracy"]
        + ["ratios"] * several
        + ["speedups"] * (several and bool(comparison.thresholds)),
        text=summary_text,
        tables=tables,
        min_norm_at=min_norm_at,
        infinity=math.inf,
        formatting=formatting,
        shared_settings=_shared_settings(comparison),
        describe_settings=_describe_settings,
        link=partial(_link, folder=folder),
        wandb_url=_wandb_url,
        styles=group_styles(comparison.names),
        dash_lengths=dash_lengths,
        markers=PLOTLY_MARKERS,
        data=chart_data(comparison, axis),
        style=(_HERE / "page.css").read_text(),
        plotly=(_HERE / "vendor" / "plotly-basic.min.js").read_text(),
        script=(_HERE / "charts.js").read_text(),
    )


def _shared_settings(comparison: Comparison) -> dict[str, str]:
    runs = comparison.runs
    commits = dict.fromkeys(str(run.state.environment.get("commit")) for run in runs)
    return {
        **{
            heading: ", ".join(_setting(runs, key) for key in keys)
            for heading, keys in _SHARED_SETTINGS.items()
        },
        "code": ", ".join(commits),
        "grouped by": ", ".join(comparison.by),
    }


def _describe_settings(runs: Sequence[Run], section: str) -> str:
    """Describe a section of the settings: ``Exponential, initial 0.1, final 0.2``."""
    texts = []
    for name in dict.fromkeys(key for run in runs for key in run.config if nested(key, [section])):
        values = [run.config.get(name) for run in runs]
        if name.endswith("_target_"):
            texts += ["/".join(dict.fromkeys(str(v).rpartition(".")[2] for v in values))]
        elif not is_display(name) and any(value is not None for value in values):
            texts += [_setting(runs, name)]
    return ", ".join(texts)


def _setting(runs: Iterable[Run], key: str) -> str:
    name = key.rpartition(".")[2].replace("_", " ")
    values = dict.fromkeys(str(run.config.get(key)) for run in runs)
    text = " or ".join(value if value != "None" else "default" for value in values)
    return text if name in ("name", "epochs") else f"{name} {text}"


def _link(target: Path, folder: Path) -> str:
    return quote(os.path.relpath(target.resolve(), folder.resolve()))


def _wandb_url(run: Run) -> str:
    """The run's W&B page, empty if it has none; a URL with another scheme is not linked."""
    url = str(run.state.wandb.get("url") or "")
    return url if url.startswith(("https://", "http://")) else ""
