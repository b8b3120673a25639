"""Schedules in the terminal: bar charts, totals and the terms of the bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from accelerando.preview.entries import ScheduleEntry
from accelerando.schedule import Plan, Problem, bound, crossing, growth_warning
from accelerando.scheduler_names import display_values

WIDTH, HEIGHT = 52, 4
_BLOCKS = " ▁▂▃▄▅▆▇█"


def print_schedules(
    console: Console, entries: Sequence[ScheduleEntry], problem: Problem | None
) -> None:
    """Print charts of the schedules and tables that compare them."""
    for entry in entries:
        _print_charts(console, entry)
    for steps, titles in _budgets(entries).items():
        console.print(_table(", ".join(titles), entries, steps, problem))
    if problem is not None:
        for note in _notes_on_bounds(entries, problem):
            _print_note(console, note)


def _print_charts(console: Console, entry: ScheduleEntry) -> None:
    plan = entry.plan
    console.print(f"[bold]{entry.name}[/bold]")
    sizes = plan.batch_sizes.astype(float)
    rates = np.array([plan.rates(epoch).mean() for epoch in range(plan.epochs)])
    for title, values, log in (("batch size", sizes, True), ("learning rate", rates, False)):
        if constant := np.isclose(values.min(), values.max(), atol=0):  # means are rounded
            values = np.full_like(values, values.max())
        rows = bars(values, log=log)[-1 if constant else 0 :]
        low, high = (f"{value:.4g}" for value in (values.min(), values.max()))
        for number, row in enumerate(rows):
            mark = high if number == 0 else low if number == len(rows) - 1 else ""
            console.print(f"{title if number == 0 else '':>14} {mark:>9} {row}", markup=False)
    console.print(f"{'':>25}epoch 0{plan.epochs:>{WIDTH - 8}}")
    for note in filter(None, [*plan.notes, growth_warning(entry.scheduler, plan.epochs)]):
        _print_note(console, note)
    console.print()


def _print_note(console: Console, note: str) -> None:
    # wrap between words in a terminal, but keep one line per note in files and pipes
    console.print(f"note: {note}", soft_wrap=not console.is_terminal)


def bars(values: npt.NDArray[np.float64], *, log: bool) -> list[str]:
    """Return a bar chart of ``HEIGHT`` lines and ``WIDTH`` columns, top line first.

    >>> bars(np.array([1.0, 2.0, 4.0]), log=True)[0][::9]
    '    ██'
    """
    columns = values[(np.arange(WIDTH) * len(values)) // WIDTH]
    scaled = np.log(np.maximum(columns, 1e-300)) if log else columns
    low, high = float(scaled.min()), float(scaled.max())
    # even the lowest value gets a visible bar of one eighth
    span = high - low or 1.0
    eighths = np.ceil(1 + (scaled - low) / span * (8 * HEIGHT - 1)).astype(int)
    return [
        "".join(_BLOCKS[min(8, max(0, int(e) - 8 * line))] for e in eighths)
        for line in reversed(range(HEIGHT))
    ]


def _budgets(entries: Sequence[ScheduleEntry]) -> dict[tuple[int, ...], list[str]]:
    """Return the titles of the budgets, by the steps that each schedule takes within them."""
    plans = [entry.plan for entry in entries]
    budgets = {tuple(plan.total_steps for plan in plans): ["entire run"]}
    if len(plans) == 1:
        return budgets
    epochs = min(plan.epochs for plan in plans)
    steps = min(plan.total_steps for plan in plans)
    examples = min(plan.total_examples for plan in plans)
    for title, counts in (
        (f"equal epochs ({epochs:,})", (int(plan.first_steps[epochs]) for plan in plans)),
        (f"equal steps ({steps:,})", (steps for _ in plans)),
        (f"equal examples ({examples:,})", (_steps_within(plan, examples) for plan in plans)),
    ):
        budgets.setdefault(tuple(counts), []).append(title)
    return budgets


def _steps_within(plan: Plan, examples: int) -> int:
    epoch, offset = divmod(examples, plan.examples)
    if epoch == plan.epochs:
        return plan.total_steps
    return max(1, int(plan.first_steps[epoch]) + offset // int(plan.batch_sizes[epoch]))


def _table(
    title: str, entries: Sequence[ScheduleEntry], steps: Sequence[int], problem: Problem | None
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=0)
    table.add_column("scheduler", overflow="fold", min_width=17)
    names = ["epochs", "steps", "examples", "largest\nbatch", "B_T", "V_T"]
    for name in names + (["bound\nof the norm"] if problem else []):
        table.add_column(name, justify="right")
    for entry, count in zip(entries, steps, strict=True):
        plan, position = entry.plan, entry.plan.position_after(count)
        terms = plan.terms(count)
        examples = position.epoch * plan.examples + position.offset
        cells = [
            f"{examples / plan.examples:.4g}",
            f"{count:,}",
            _short(examples),
            f"{plan.batch_sizes[: position.epoch + bool(position.offset)].max():,}",
            f"{terms.bias:.2e}",
            f"{terms.variance:.2e}",
        ]
        if problem is not None:
            cells.append(_bound(plan, count, problem))
        table.add_row(entry.name, *cells)
    return table


def _short(count: int) -> str:
    """Format a count with few digits.

    >>> _short(143_700), _short(15_000_000)
    ('143,700', '15.0 M')
    """
    return f"{count:,}" if count < 1e6 else f"{count / 1e6:,.1f} M"


def _bound(plan: Plan, steps: int, problem: Problem) -> str:
    try:
        return f"{math.sqrt(bound(plan.terms(steps), problem).total):.3g}"
    except ValueError:
        return "none"


def _notes_on_bounds(entries: Sequence[ScheduleEntry], problem: Problem) -> Iterator[str]:
    """Explain which bounds are undefined over the entire run, or disagree with measured norms."""
    cases = display_values("case")
    totals = {}
    for entry in entries:
        try:
            total = bound(entry.plan.terms(), problem).total
        except ValueError as error:
            yield f"{entry.name}: {error}"
        else:
            if entry.name in cases:
                totals[entry.name] = total
    by_measured_norm = sorted(totals, key=cases.__getitem__)
    by_bound = sorted(by_measured_norm, key=totals.__getitem__, reverse=True)
    if by_measured_norm != by_bound:
        yield (
            f"the bound orders these cases as {' > '.join(by_bound)}, the norms measured in the "
            f"paper order them as {' > '.join(by_measured_norm)}: the bound is a guide, not a "
            "verdict"
        )


def crossings(
    console: Console, entries: Sequence[ScheduleEntry], problem: Problem, *, stages: int
) -> None:
    """Print at which run length, up to ``stages``, one schedule's bound drops below another's."""
    for first, second in permutations(entries, 2):
        epochs = crossing(
            first.scheduler,
            second.scheduler,
            problem,
            examples=first.plan.examples,
            interval=first.interval,
            stages=range(1, stages + 1),
        )
        if epochs is not None:
            console.print(
                f"the bound of {first.name} drops below that of {second.name} at "
                f"{epochs} epochs (stages of {first.interval})"
            )
