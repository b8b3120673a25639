"""Compare groups of finished runs: tables, figures, and a report to open in a browser."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from accelerando.checks import UsageError

if TYPE_CHECKING:
    from accelerando.compare.comparison import Comparison
    from accelerando.compare.load import Run

AXES = ("epochs", "steps", "examples", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders with runs, such as runs/")
    parser.add_argument("--x", default="epochs", choices=AXES, help="axis of tables and figures")
    parser.add_argument("--raw", action="store_true", help="draw norms, not their minimum so far")
    parser.add_argument(
        "--by",
        action="append",
        metavar="NAME",
        help="setting to group by, such as scheduler (the default) or "
        "scheduler.learning_rate.peak; may be given again",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this setting, such as epochs=100 or seed=0,1; may be given again",
    )
    parser.add_argument(
        "--mix",
        default="",
        metavar="KIND,...",
        help="compare runs that differ in yardstick, data, model, budget, optimizer, arithmetic",
    )
    parser.add_argument("--reference", metavar="GROUP", help="count speed-ups against this group")
    parser.add_argument("--thresholds", metavar="NORM,...", help="levels of the norm to reach")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: the first folder")
    parser.add_argument("--formats", default="png,svg", metavar="png,svg,pdf", help="of figures")
    machines = parser.add_mutually_exclusive_group()
    machines.add_argument("--json", action="store_true", help="print everything as JSON")
    machines.add_argument("--csv", action="store_true", help="print a row per group and axis")


def act(options: argparse.Namespace) -> None:
    """Compare, and show it as asked for; exit code 1 where a record is damaged."""
    comparison = _compared(options)
    if options.json or options.csv:
        from accelerando.compare.export import tree, write_csv

        if options.json:
            print(json.dumps(tree(comparison), indent=1))
        else:
            write_csv(comparison, sys.stdout)
    else:
        _show(comparison, options)
    for broken in comparison.broken:
        print(f"damaged, skipped: {broken.path}: {broken.reason}", file=sys.stderr)
    if comparison.broken:
        sys.exit(1)


def _compared(options: argparse.Namespace) -> Comparison:
    # imported here: NumPy, SciPy and matplotlib take time that other commands need not spend
    from accelerando.compare.comparison import compare
    from accelerando.compare.filtering import (
        KINDS,
        comparable,
        completed_runs,
        known_setting,
        select_runs,
    )
    from accelerando.compare.groups import split
    from accelerando.compare.load import load_runs

    by = tuple(options.by or ["scheduler"])
    mix = [kind for kind in options.mix.split(",") if kind]
    if unknown := [kind for kind in mix if kind not in KINDS]:
        raise UsageError(f"--mix {','.join(unknown)}: give some of {', '.join(KINDS)}")
    found = load_runs(options.folders)
    runs = select_runs(found.runs, options.where)
    finished, left_out = completed_runs(runs)
    if not finished:
        for broken in found.broken:
            print(f"damaged, skipped: {broken.path}: {broken.reason}", file=sys.stderr)
        reasons = "; ".join(f"{out.run.path}: {out.reason}" for out in left_out[:3])
        raise UsageError(
            "no finished run is left to compare: finish some, or widen --where"
            + (f" ({reasons})" if reasons else "")
        )
    for key in by:
        known_setting(finished, key, f"--by {key}")
    comparable(finished, by=by, mix=mix)
    groups, repeated = split(finished, by)
    return compare(
        groups,
        title=_title(finished),
        by=by,
        reference=options.reference,
        thresholds=_numbers(options.thresholds),
        left_out=[*left_out, *repeated],
        broken=found.broken,
        mixed=mix,
    )


def _title(runs: Sequence[Run]) -> str:
    """Model, data and length; of what differs, every one."""
    models, data, lengths = (
        " and ".join(dict.fromkeys(str(getattr(run.state, name)) for run in runs))
        for name in ("model", "dataset", "epochs")
    )
    return f"{models} on {data}, {lengths} epochs"


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--thresholds {text}: give numbers, such as 0.1,0.01") from error
    if min(found) <= 0:
        raise UsageError(f"--thresholds {text}: levels of a norm must be above 0")
    return found


def _show(comparison: Comparison, options: argparse.Namespace) -> None:
    from accelerando.compare.pictures import figures
    from accelerando.compare.report import write_report
    from accelerando.compare.summary_text import (
        caveats,
        describe_left_out,
        headline,
        speedup_sentence,
    )
    from accelerando.compare.table import reach_table, table
    from accelerando.plotting import check_format, save_figure

    formats = [form.strip(". ") for form in options.formats.split(",")]
    for form in formats:
        check_format(form)
    folder = options.output or options.folders[0]
    if folder.suffix in (".png", ".svg", ".pdf", ".html"):
        raise UsageError(f"--output {folder}: give a folder; --formats says what figures are")
    console = Console(highlight=False)
    on = comparison.axes[options.x]
    for out in comparison.left_out:
        console.print(f"left out, {out.reason}: {out.run.path}", soft_wrap=True, markup=False)
    if words := describe_left_out(comparison):
        console.print(words)
    console.print(table(comparison, on))
    if comparison.thresholds:
        console.print(reach_table(comparison, on))
    console.print(f"{headline(on)} {speedup_sentence(comparison, on)}".strip(), markup=False)
    for caution in caveats(comparison):
        console.print(f"note: {caution}", markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(comparison, axis=options.x, raw=options.raw).items():
        for form in formats:
            save_figure(figure, folder / f"{name}.{form}")
        endings = f"{{{','.join(formats)}}}" if len(formats) > 1 else formats[0]
        console.print(f"figure  {folder / name}.{endings}", soft_wrap=True, markup=False)
    write_report(comparison, folder / "report.html", axis=options.x, raw=options.raw)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True, markup=False)
