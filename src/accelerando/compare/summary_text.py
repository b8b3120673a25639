"""What a comparison says, in words: the question, the answer with its interval, the cautions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.load import Run
from accelerando.compare.statistics import ENOUGH, Paired, Summary
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT, SpeedUp
from accelerando.runs.folder import Status

LITTLE = 0.95
"""What is left of the loss where nothing was learned, as a share, at least."""
_BOUNDS = {EXACT: "", AT_LEAST: "at least ", AT_MOST: "at most "}


def question(comparison: Comparison) -> str:
    """What was asked of the runs."""
    what = " and ".join(key.rpartition(".")[2].replace("_", " ") for key in comparison.by)
    return f"Which {what} brings the full gradient norm lowest at equal cost, and by how much?"


def headline(on: AxisComparison) -> str:
    """One sentence: who is ahead at equal cost, by how much, and how sure that is."""
    best, second, duel = on.best, on.second, on.duel
    where = f"At equal {on.axis} ({format_amount(on)})"
    reached = f"{best.group.label} reaches a full gradient norm of {format_number(best.norm.mean)}"
    if second is None:
        return f"{where} {reached}{within(best.norm)}; there is nothing to compare it with."
    if duel is None:
        return (
            f"{where} {reached}{within(best.norm)}, {second.group.label} one of "
            f"{format_number(second.norm.mean)}{within(second.norm)}; they have no seed in common, so how "
            "they differ cannot be said."
        )
    if math.isnan(duel.ratio):
        other = f"{second.group.label} one of {format_number(second.norm.mean)}"
        return f"{where} {reached}, {other}; to a norm of 0 there is no ratio."
    times = f"{format_ratio(1 / duel.ratio)} times smaller than that of {second.group.label}"
    seeds = f"in {duel.wins} of {duel.count} common seeds"
    if duel.count < ENOUGH:
        seeds += ", too few to be sure"
    if duel.ratio > 1:
        return f"{where} {_behind(best, second, duel)}; the first is smaller {seeds})."
    if duel.count < 2:
        return f"{where} {reached}, {times}; with one common seed nobody can say how sure that is."
    interval = (
        f"95 % interval {format_ratio(1 / duel.ratio_high)} to {format_ratio(1 / duel.ratio_low)}"
    )
    if not clear(duel):
        return (
            f"{where} the two smallest norms cannot be told apart: {best.group.label} "
            f"({format_number(best.norm.mean)}) and {second.group.label} ({format_number(second.norm.mean)}), "
            f"whose ratio is {format_ratio(1 / duel.ratio)} ({interval}; the first is smaller {seeds})."
        )
    return f"{where} {reached}, {times} ({interval}; smaller {seeds})."


def _behind(best: GroupResult, second: GroupResult, duel: Paired) -> str:
    """Seeds that they do not share, or one that stands out, decided the order of the means."""
    return (
        f"{best.group.label} has the smallest mean ({format_number(best.norm.mean)}), but seed by seed "
        f"{second.group.label} is smaller, so neither can be said to be ahead "
        f"({format_ratio(duel.ratio)} times; 95 % interval {format_ratio(duel.ratio_low)} to "
        f"{format_ratio(duel.ratio_high)}"
    )


def speedup_sentence(comparison: Comparison, on: AxisComparison) -> str:
    """A second sentence: how much less the best needs than the reference for the lowest level."""
    best = on.best
    if best.group is comparison.reference:
        return ""
    for reach, found in reversed(list(zip(best.reach, best.speed_up, strict=True))):
        if reach.reached == reach.runs and found.telling:
            times, found = _times(found, on.axis)
            return (
                f"{best.group.label} comes below {reach.threshold:g} with {times} "
                f"{comparison.reference.label}{_open_interval(found)}."
            )
    return ""


def _times(found: SpeedUp, axis: str) -> tuple[str, SpeedUp]:
    """The factor in words, and the speed-up that they speak of: itself or its inverse."""
    if found.bound == EXACT and format_ratio(found.factor) == "1":
        return f"as many {axis} as", found
    if found.bound == EXACT and found.factor < 1:
        found = _inverse(found)
        return f"{format_ratio(found.factor)} times more {axis} than", found
    return f"{_BOUNDS[found.bound]}{format_ratio(found.factor)} times fewer {axis} than", found


def _inverse(found: SpeedUp) -> SpeedUp:
    return replace(found, factor=1 / found.factor, low=1 / found.high, high=1 / found.low)


def _open_interval(found: SpeedUp) -> str:
    if math.isnan(found.low) or math.isnan(found.high):
        if found.bound not in (AT_LEAST, AT_MOST):
            return ""
        who = "which" if found.bound == AT_LEAST else "as it"
        return f", {who} never gets there in {found.censored} of {found.pairs} common seeds"
    return f" (95 % interval {format_ratio(found.low)} to {format_ratio(found.high)})"


def clear(duel: Paired) -> bool:
    """Whether the first is smaller over the whole interval of the ratio."""
    return duel.ratio_high < 1


def format_amount(on: AxisComparison) -> str:
    """The common budget of an axis."""
    if on.axis == "seconds":
        return f"{format_number(on.budget)} s"
    return f"{on.budget:,.0f}"


def within(summary: Summary) -> str:
    """The interval of a mean, where there is one."""
    if math.isnan(summary.low):
        return ""
    return f" (95 % interval {format_number(summary.low)} to {format_number(summary.high)})"


def format_speedup(found: SpeedUp) -> str:
    """A factor with its interval, and what is known of it where runs were censored."""
    if found.bound not in _BOUNDS:
        return "–"
    sign = {"at least ": "≥ ", "at most ": "≤ "}.get(_BOUNDS[found.bound], "")
    text = f"{sign}{format_ratio(found.factor)}×"
    if found.bound == EXACT and not math.isnan(found.low):
        text += f" ({format_ratio(found.low)}-{format_ratio(found.high)})"
    return text


def format_number(value: float) -> str:
    """Three significant digits, as a reader would write them.

    >>> [format_number(v) for v in (0.0012345, 2.0, 12345.6, math.inf, math.nan)]
    ['0.00123', '2', '12,346', 'never', '–']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_ratio(value: float) -> str:
    """As ``format_number``, but near 1 with two digits of what it is more or less than 1.

    >>> [format_ratio(v) for v in (1.00123, 0.9988, 1.25, 1.0)]
    ['1.0012', '0.9988', '1.25', '1']
    """
    apart = abs(value - 1)
    if not 1e-6 < apart < 0.1:
        return format_number(value)
    return f"{value:.{1 - math.floor(math.log10(apart))}f}".rstrip("0")


def describe_left_out(comparison: Comparison) -> str:
    """What was left out, counted: ``3 unfinished, 1 diverged left out``; empty for nothing."""
    counts = Counter(_why(out.run.status) for out in comparison.left_out)
    counts["damaged"] = len(comparison.broken)
    words = [f"{count} {why}" for why, count in counts.items() if count]
    return f"{', '.join(words)} left out" if words else ""


def _why(status: str) -> str:
    if status == Status.FINISHED:
        return "finished, but repeated or without an exact norm,"
    return "diverged" if status == Status.DIVERGED else "unfinished"


def caveats(comparison: Comparison) -> list[str]:
    """What a reader must know before believing the answer."""
    found = []
    on = next(iter(comparison.axes.values()))
    others = [standing.against_best for standing in on.standings if standing is not on.best]
    pairs = [0 if duel is None else duel.count for duel in others]
    if len(comparison.groups) > 1 and (fewest := min(pairs, default=0)) < ENOUGH:
        found.append(
            f"Too few seeds to say: groups have as few as {fewest} seeds in common. Even if all of "
            f"them agree, an exact test gives p = {2 / 2**fewest if fewest else 1:.2g}; below 0.05 "
            f"needs {ENOUGH}. Intervals from so few seeds are too narrow."
        )
    if len(comparison.groups) > 2:
        found.append(
            f"Intervals and p-values are each for one comparison; picking the best of "
            f"{len(comparison.groups)} groups makes it look better than it is. Choose on some "
            "seeds, report on others."
        )
    diverged = Counter(out.run.state.scheduler for out in comparison.left_out if
                       out.run.status == Status.DIVERGED)  # fmt: skip
    if diverged:
        words = ", ".join(f"{count} of {name}" for name, count in diverged.items())
        found.append(f"Diverged runs are left out: {words}. What is compared is what survived.")
    found += [
        f"{group.label}: {idle} of {len(group.runs)} runs learned nothing, their loss ends where "
        "it began. A small gradient there is that of a network that no longer responds."
        for group in comparison.groups
        if (idle := sum(map(_learned_nothing, group.runs)))
    ]
    found += [
        f"{group.label} brings together runs that differ in {', '.join(group.mixed)}; they are "
        "averaged within a seed, and paired with their like."
        for group in comparison.groups
        if group.mixed
    ]
    if comparison.mixed:
        found.append(f"Runs that differ in {', '.join(comparison.mixed)} were mixed as asked for.")
    machines = {(r.state.environment.get("machine"), r.state.environment.get("cpu"),
                 r.state.environment.get("device")) for r in comparison.runs}  # fmt: skip
    commits = {run.state.environment.get("commit") for run in comparison.runs}
    if len(commits) > 1:
        found.append(f"The runs were made by {len(commits)} versions of the code.")
    if len(machines) > 1:
        found.append(f"Seconds are from {len(machines)} kinds of machine and compare badly.")
    return found


def _learned_nothing(run: Run) -> bool:
    losses = run.record.get("empirical_loss")
    return losses is not None and bool(losses[-1] > LITTLE * losses[0])
