"""The comparison in sentences: question, answer with its uncertainty, and caveats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from accelerando.compare.align import NORM, min_norm_at
from accelerando.compare.comparison import AxisComparison, Comparison
from accelerando.compare.formatting import (
    format_budget,
    format_interval,
    format_mean,
    format_number,
    format_ratio,
)
from accelerando.compare.groups import Group
from accelerando.compare.statistics import MIN_PAIRS
from accelerando.compare.thresholds import AT_LEAST, EXACT
from accelerando.runs.folder import Status


def question(comparison: Comparison) -> str:
    """Return the question that the comparison answers."""
    what = " and ".join(key.rpartition(".")[2].replace("_", " ") for key in comparison.by)
    return f"Which {what} reaches the lowest full gradient norm at equal cost, and by how much?"


def headline(on: AxisComparison) -> str:
    """State in a sentence which group leads at equal cost, by how much, and with what certainty."""
    apart = [result for result in on.ranked if result.group.failures]
    named = "; ".join(f"{result.group.label} ({result.group.failures})" for result in apart)
    if len(apart) == len(on.results):
        return f"No group is ahead: in every one some runs failed: {named}."
    return _lead(on) + (f" Ranked apart, because runs failed: {named}." if apart else "")


def _lead(on: AxisComparison) -> str:
    """State which of the groups without failures is ahead."""
    best, *others = [result for result in on.ranked if not result.group.failures]
    start = f"At equal {on.axis} ({format_budget(on)}),"
    if on.cuts:
        return (
            f"{start} no group is named ahead, because that budget cuts schedules short: "
            f"{_describe_cuts(on)}. {_refit(on)}"
        )
    test = on.best_vs_second
    first, norm, mean = best.group.label, format_number(best.norm.mean), format_mean(best.norm)
    reaches = f"{start} {first} reaches a full gradient norm of"
    if not others:
        return f"{reaches} {mean}; there is no other group to compare it with."
    second, second_norm = others[0].group.label, format_number(others[0].norm.mean)
    if test is None:
        return (
            f"{reaches} {mean} and {second} one of {format_mean(others[0].norm)}; they have no "
            "seeds in common, so their difference cannot be tested."
        )
    if math.isnan(test.ratio):
        return f"{reaches} {norm} and {second} one of {second_norm}; a norm of 0 has no ratio."
    wins = f"smaller in {test.wins} of {test.count} common seeds"
    if test.count < MIN_PAIRS:
        wins += ", too few to be sure"
    if test.ratio > 1:  # seeds that they do not share, or an outlier, decided the ranking
        return (
            f"{start} {first} has the smallest mean norm ({norm}), but in paired seeds {second} is "
            f"{format_ratio(test.ratio)} times smaller "
            f"({format_interval(test.ratio_low, test.ratio_high)}; the first is {wins}), "
            "so neither is ahead."
        )
    interval = format_interval(1 / test.ratio_high, 1 / test.ratio_low)
    times = format_ratio(1 / test.ratio)
    if test.ratio_high >= 1:
        return (
            f"{start} the two smallest norms cannot be distinguished: {first} ({norm}) and "
            f"{second} ({second_norm}), whose ratio is {times} ({interval}; the first is {wins})."
        )
    relation = "the same as" if times == "1" else f"{times} times smaller than"
    result = f"{reaches} {norm}, {relation} that of {second}"
    if test.count < 2:
        return f"{result}; one common seed does not show how certain that is."
    return f"{result} ({interval}; {wins})."


def _describe_cuts(on: AxisComparison) -> str:
    labels: dict[str, list[str]] = {}
    for label, cut in on.cuts.items():
        labels.setdefault(cut, []).append(label)
    return "; ".join(f"{', '.join(same)} {cut}" for cut, same in labels.items())


def _refit(on: AxisComparison) -> str:
    if on.axis == "seconds":
        return "Compare on another axis."
    budget = f"steps={on.budget:.0f}" if on.axis == "steps" else "the same number of epochs"
    return f"Compare runs that were made for that budget, with {budget}."


def speedup_sentence(comparison: Comparison, on: AxisComparison) -> str:
    """State the best group's speed-up over the reference at the lowest fixed threshold, if known.

    The speed-up at a threshold that was chosen to suit the runs is not evidence.
    """
    best, reference = on.best, comparison.reference.label
    if best.group.failures or on.cuts:
        return ""
    for time, speedup in zip(reversed(best.times_to_target), reversed(best.speedups), strict=False):
        fixed = time.threshold in comparison.fixed_thresholds
        if not fixed or time.reached < time.runs or speedup.bound not in (EXACT, AT_LEAST):
            continue
        factor, low, high = speedup.factor, speedup.low, speedup.high
        details = "" if math.isnan(low) else f" ({format_interval(low, high)})"
        if speedup.bound == AT_LEAST:
            amount = f"at least {format_ratio(factor)} times fewer {on.axis} than"
            details = (
                f" (95 % interval), which {reference} does not reach in {speedup.censored} of "
                f"{speedup.pairs} common seeds"
            )
        elif format_ratio(factor) == "1":
            amount = f"as many {on.axis} as"
        elif factor < 1:
            amount = f"{format_ratio(1 / factor)} times more {on.axis} than"
            if details:
                details = f" ({format_interval(1 / high, 1 / low)})"
        else:
            amount = f"{format_ratio(factor)} times fewer {on.axis} than"
        return (
            f"{best.group.label} needs {amount} {reference} to reach a norm of "
            f"{time.threshold:g}{details}."
        )
    return ""


def describe_excluded(comparison: Comparison) -> str:
    """Count the runs that are not compared, or return an empty string if there are none."""
    finished = "finished (duplicate or without an exact norm)"
    counts = Counter(
        finished if out.run.status == Status.FINISHED else "unfinished"
        for out in comparison.excluded
    )
    counts["damaged"] = len(comparison.damaged)
    texts = [f"{count} {kind}" for kind, count in counts.items() if count]
    return f"Left out: {', '.join(texts)}" if texts else ""


def caveats(comparison: Comparison) -> list[str]:
    """Return what limits the conclusions, one or two sentences each."""
    return [
        *_statistical_caveats(comparison),
        *(text for group in comparison.groups for text in _group_caveats(group)),
        *_provenance_caveats(comparison),
    ]


def _statistical_caveats(comparison: Comparison) -> Iterator[str]:
    on = next(iter(comparison.axes.values()))  # pairs are the same on every axis
    tests = [result.vs_best for result in on.ranked[1:]]
    fewest = min((0 if test is None else test.count for test in tests), default=MIN_PAIRS)
    if fewest < MIN_PAIRS:
        yield (
            f"Too few seeds: groups have as few as {fewest} seeds in common. Even if all of them "
            f"agree, the exact test gives p = {2 / 2**fewest if fewest else 1:.2g}; p < 0.05 needs "
            f"at least {MIN_PAIRS}. Intervals from so few seeds are too narrow."
        )
    if len(comparison.groups) > 2:
        yield (
            "Intervals and p-values are not corrected for multiple comparisons: the best of "
            f"{len(comparison.groups)} groups looks better than it is. Choose it on some seeds and "
            "report it on others."
        )


def _group_caveats(group: Group) -> Iterator[str]:
    if failures := group.failures:
        yield (
            f"{group.label}: {failures}. It is ranked after the groups without failures; its means "
            "describe the other runs, and its medians count failed runs as infinite."
        )
    worse = sum(
        min_norm_at(run, "steps", math.inf) >= run.record[NORM][0]
        for run in group.runs
        if not run.failed
    )
    if worse:
        yield (
            f"{group.label}: in {worse} of {len(group.runs)} runs the norm never fell below its "
            "value before training, which is not counted as a result."
        )
    if group.mixed:
        yield (
            f"{group.label} combines runs that differ in {', '.join(group.mixed)}. They are paired "
            "with runs of the same settings, and averaged within each seed."
        )


def _provenance_caveats(comparison: Comparison) -> Iterator[str]:
    if comparison.mixed:
        yield f"--mix allowed the runs to differ in {', '.join(comparison.mixed)}."
    environments = [run.state.environment for run in comparison.runs]
    commits = {environment.get("commit") for environment in environments}
    machines = {
        tuple(map(environment.get, ("machine", "cpu", "device"))) for environment in environments
    }
    if len(commits) > 1:
        yield f"The runs were created by {len(commits)} different commits."
    if len(machines) > 1:
        yield f"Seconds are from {len(machines)} kinds of machine and are hardly comparable."
