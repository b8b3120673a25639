"""Compare groups of finished runs: tables, figures and an HTML report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.compare.align import AXES
from accelerando.compare.comparison import Comparison, find_group
from accelerando.compare.export import to_dict, write_csv
from accelerando.compare.filtering import (
    SHARED_SETTINGS,
    check_comparable,
    check_setting_exists,
    completed_runs,
    select_runs,
)
from accelerando.compare.groups import group_runs
from accelerando.compare.load import DamagedRun, Run, load_runs
from accelerando.compare.summary_text import (
    caveats,
    describe_excluded,
    headline,
    speedup_sentence,
)
from accelerando.compare.tables import results_table, threshold_table
from accelerando.compare.thresholds import default_thresholds, recorded_thresholds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    add = parser.add_argument
    add("folders", nargs="+", type=Path, help="folders with runs, such as runs/")
    add("--x", default="epochs", choices=AXES, help="axis of tables and figures; default: epochs")
    add("--raw", action="store_true", help="draw norms as measured, not their minimum so far")
    add(
        "--by",
        action="append",
        metavar="NAME",
        help="group by this setting, such as scheduler.learning_rate.peak; repeatable; "
        "default: scheduler",
    )
    add(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this setting, such as epochs=100 or seed=0,1; repeatable",
    )
    add(
        "--mix",
        default="",
        metavar="KIND,...",
        help="allow runs to differ in yardstick, data, model, budget, optimizer or precision; "
        "`arithmetic` is accepted for precision",
    )
    add(
        "--reference",
        metavar="GROUP",
        help="compute speed-ups over this group; default: the first group in the table",
    )
    add(
        "--thresholds",
        metavar="NORM,...",
        help="norms to reach; default: round values within the range of the runs",
    )
    add("--output", type=Path, metavar="DIR", help="folder to write to; default: the first folder")
    add("--formats", default="png,svg", metavar="png,svg,pdf", help="formats of the figures")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print all results as JSON instead")
    output.add_argument(
        "--csv", action="store_true", help="print a CSV row per group and axis instead"
    )


def run_command(options: argparse.Namespace) -> None:
    """Compare runs and show the results; exit with code 1 if a record is damaged."""
    comparison = _compare(options)
    if options.json:
        print(json.dumps(to_dict(comparison), indent=1))
    elif options.csv:
        write_csv(comparison, sys.stdout)
    else:
        _show(comparison, options)
    _report_damage(comparison.damaged)
    if comparison.damaged:
        sys.exit(1)


def _report_damage(damaged: Sequence[DamagedRun]) -> None:
    for run in damaged:
        print(f"damaged, skipped: {run.path}: {run.reason}", file=sys.stderr)


def _compare(options: argparse.Namespace) -> Comparison:
    by = tuple(options.by or ["scheduler"])
    kinds = [kind for kind in options.mix.split(",") if kind]
    mix = ["arithmetic" if kind == "precision" else kind for kind in kinds]
    if unknown := [kind for kind in mix if kind not in SHARED_SETTINGS]:
        raise UsageError(f"--mix {','.join(unknown)}: use some of {', '.join(SHARED_SETTINGS)}")
    thresholds = _parse_thresholds(options.thresholds)
    loaded = load_runs(options.folders)
    completed, excluded = completed_runs(select_runs(loaded.runs, options.where))
    if not completed:
        _report_damage(loaded.damaged)
        reasons = "; ".join(f"{out.run.path}: {out.reason}" for out in excluded[:3])
        raise UsageError(
            "no finished runs to compare: wait for some, or relax --where"
            + (f" ({reasons})" if reasons else "")
        )
    for key in by:
        check_setting_exists(completed, key, f"--by {key}")
    check_comparable(completed, by=by, mix=mix)
    groups, duplicates = group_runs(completed, by)
    return Comparison(
        title=_title(completed),
        by=by,
        groups=groups,
        reference=find_group(groups, options.reference) if options.reference else groups[0],
        thresholds=default_thresholds(groups) if thresholds is None else thresholds,
        fixed_thresholds=thresholds or recorded_thresholds(groups),
        excluded=[*excluded, *duplicates],
        damaged=loaded.damaged,
        mixed=mix,
    )


def _title(runs: Sequence[Run]) -> str:
    models, data, lengths = (
        " and ".join(dict.fromkeys(str(getattr(run.state, name)) for run in runs))
        for name in ("model", "dataset", "epochs")
    )
    return f"{models} on {data}, {lengths} epochs"


def _parse_thresholds(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        thresholds = sorted(map(float, text.split(",")), reverse=True)
    except ValueError as error:
        raise UsageError(f"--thresholds {text}: use numbers, such as 0.1,0.01") from error
    if thresholds[-1] <= 0:
        raise UsageError(f"--thresholds {text}: norms to reach must be above 0")
    return thresholds


def _show(comparison: Comparison, options: argparse.Namespace) -> None:
    # imported here, because importing matplotlib takes long
    from accelerando.compare.figures import figures
    from accelerando.compare.report import write_report
    from accelerando.plotting import check_format, save_figure

    formats = [form.strip(". ") for form in options.formats.split(",")]
    for form in formats:
        check_format(form)
    folder = options.output or options.folders[0]
    if folder.suffix in (".png", ".svg", ".pdf", ".html"):
        raise UsageError(f"--output {folder}: use a folder; --formats selects the file types")
    console = Console(highlight=False)
    _print_results(console, comparison, options.x)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(comparison, axis=options.x, raw=options.raw).items():
        for form in formats:
            save_figure(figure, folder / f"{name}.{form}")
        endings = f"{{{','.join(formats)}}}" if len(formats) > 1 else formats[0]
        console.print(f"figure  {folder / name}.{endings}", soft_wrap=True, markup=False)
    write_report(comparison, folder / "report.html", axis=options.x, raw=options.raw)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True, markup=False)


def _print_results(console: Console, comparison: Comparison, axis: str) -> None:
    on = comparison.axes[axis]
    for out in comparison.excluded:
        console.print(f"left out, {out.reason}: {out.run.path}", soft_wrap=True, markup=False)
    if text := describe_excluded(comparison):
        console.print(text)
    console.print(results_table(comparison, on))
    if comparison.thresholds:
        console.print(threshold_table(comparison, on))
    console.print(f"{headline(on)} {speedup_sentence(comparison, on)}".strip(), markup=False)
    for caveat in caveats(comparison):
        console.print(f"note: {caveat}", markup=False)
