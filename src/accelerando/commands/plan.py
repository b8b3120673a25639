"""Preview schedules before training: charts, steps, examples and terms of the bound."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.commands.expand import add_override_arguments
from accelerando.preview.entries import ScheduleEntry, schedule_entries
from accelerando.preview.text import crossings, print_schedules
from accelerando.schedule import Problem

COLUMNS = ("epoch", "batch_size", "steps_in_epoch", "steps_so_far", "lr_first_step", "lr_last_step")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add_override_arguments(parser)
    add("--examples", type=int, help="number of training examples; default: that of the data set")
    add("--figure", type=Path, metavar="FILE", help="save a figure of the schedules")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="print one row per epoch as CSV")
    output.add_argument("--json", action="store_true", help="print totals as JSON")
    theory = parser.add_argument_group(
        "bound on the full gradient norm", "give all three constants of the loss, or none"
    )
    theory.add_argument("--smoothness", type=float, help="Lipschitz constant of the gradient, L")
    theory.add_argument("--variance", type=float, help="variance of the per-example gradient, σ²")
    theory.add_argument("--gap", type=float, help="initial optimality gap, f(θ_0) - f*")
    theory.add_argument(
        "--crossing",
        type=int,
        metavar="STAGES",
        help="also find where one bound drops below another, in runs of up to STAGES stages",
    )


def run_command(options: argparse.Namespace) -> None:
    """Print the schedules and, if requested, save a figure."""
    entries = schedule_entries(options.overrides, options.examples)
    problem = _problem(options)
    if options.csv:
        _print_csv(entries)
    elif options.json:
        totals = [_totals(entry) for entry in entries]
        print(json.dumps(totals[0] if len(totals) == 1 else totals, indent=1))
    else:
        console = Console(highlight=False, soft_wrap=False)
        print_schedules(console, entries, problem)
        if options.crossing is not None:
            if problem is None:
                raise UsageError("--crossing needs --smoothness, --variance and --gap")
            crossings(console, entries, problem, stages=options.crossing)
    if options.figure is not None:
        from accelerando.plotting import save_figure
        from accelerando.preview.figure import draw

        save_figure(draw(entries), options.figure)
        print(f"figure  {options.figure}", file=sys.stderr)


def _problem(options: argparse.Namespace) -> Problem | None:
    values = {name: getattr(options, name) for name in ("smoothness", "variance", "gap")}
    missing = [f"--{name}" for name, value in values.items() if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise UsageError(
            f"the bound needs --smoothness, --variance and --gap: {', '.join(missing)} missing"
        )
    try:
        return Problem(**values)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def _totals(entry: ScheduleEntry) -> dict[str, object]:
    names = ("total_steps", "total_examples", "largest_batch", "B_T", "V_T")
    return {"scheduler": entry.name} | {name: getattr(entry.plan, name) for name in names}


def _print_csv(entries: Sequence[ScheduleEntry]) -> None:
    several = len(entries) > 1
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*["scheduler"] * several, *COLUMNS])
    for entry in entries:
        plan, name = entry.plan, [entry.name] * several
        sizes_and_steps = zip(
            plan.batch_sizes, plan.steps_per_epoch, plan.first_steps[1:], strict=True
        )
        for epoch, numbers in enumerate(sizes_and_steps):
            writer.writerow([*name, epoch, *numbers, *plan.rates(epoch)[[0, -1]].tolist()])
