"""The sentences of a comparison: the answer, its uncertainty, and the caveats."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerando.compare.comparison import Comparison
from accelerando.compare.export import to_dict
from accelerando.compare.figures import figures
from accelerando.compare.report import render
from accelerando.compare.summary_text import caveats, headline, speedup_sentence
from accelerando.runs.folder import Status
from synthetic_runs import compare_runs, write_run

CONSTANT, WARMUP = "(i) constant batch, decaying rate", "(iv) increasing batch, warm-up rate"


def compare_final_norms(root: Path, norms: Mapping[str, Sequence[float]]) -> Comparison:
    """Compare schedulers whose runs end at the given norms, one per seed."""
    for name, values in norms.items():
        for seed, norm in enumerate(values):
            write_run(root, [2.0, norm], scheduler=name, seed=seed)
    return compare_runs(root)


def test_a_clear_answer_with_enough_seeds(tmp_path: Path) -> None:
    norms = [0.2 + k / 100 for k in range(6)]
    halves = [norm / 2 for norm in norms]
    comparison = compare_final_norms(tmp_path, {"decay_constant": norms, "warmup_increase": halves})
    assert headline(comparison.axes["epochs"]) == (
        f"At equal epochs (1), {WARMUP} reaches a full gradient norm of 0.113, 2 times smaller "
        f"than that of {CONSTANT} (95 % interval 2 to 2; smaller in 6 of 6 common seeds)."
    )
    assert caveats(comparison) == []


def test_runs_that_failed_are_ranked_apart(tmp_path: Path) -> None:
    """The gradient of a network that no longer responds may be the smallest of all."""
    for seed in range(6):
        write_run(tmp_path, [2.0, 0.2], seed=seed)
        write_run(tmp_path, [2.0, 0.3], seed=seed, scheduler="decay_increase")
        losses = [2.35, 2.302] if seed < 2 else None
        write_run(tmp_path, [2.0, 0.01], seed=seed, scheduler="warmup_increase", losses=losses)
        status = Status.DIVERGED if seed else Status.FINISHED
        write_run(tmp_path, [2.0, 0.02], seed=seed, scheduler="increase_increase", status=status)
    comparison = compare_runs(tmp_path)
    on = comparison.axes["epochs"]
    assert [result.group.name for result in on.ranked] == [
        "decay_constant", "decay_increase", "warmup_increase", "increase_increase"
    ]  # fmt: skip
    text = headline(on)
    assert f"{CONSTANT} reaches a full gradient norm of 0.2, 1.5 times smaller than that" in text
    assert f"runs failed: {WARMUP} (2 of 6 learned nothing); " in text
    assert "(5 of 6 diverged)." in text
    dead, diverged = on.ranked[2:]
    assert (dead.norm.median, dead.norm.mean) == (0.01, 0.01)
    assert math.isinf(diverged.norm.median)
    assert diverged.vs_best is not None
    assert (diverged.vs_best.wins, diverged.vs_best.count) == (1, 6)
    assert math.isnan(diverged.vs_best.ratio)
    assert any(
        text.startswith(f"{WARMUP}: 2 of 6 learned nothing.") for text in caveats(comparison)
    )


def test_no_group_is_ahead_if_runs_of_all_failed(tmp_path: Path) -> None:
    for name in ("decay_constant", "warmup_increase"):
        write_run(tmp_path, [2.0, 0.2], scheduler=name)
        write_run(tmp_path, [2.0, 0.1], scheduler=name, seed=1, status=Status.DIVERGED)
    text = headline(compare_runs(tmp_path).axes["epochs"])
    assert text.startswith("No group is ahead: in every one some runs failed: (i) constant batch")


def test_the_norm_before_training_is_not_a_result(tmp_path: Path) -> None:
    for seed in range(6):
        write_run(tmp_path, [0.4, 0.9, 0.8], seed=seed)
        write_run(tmp_path, [0.4, 0.6, 0.5], seed=seed, scheduler="warmup_increase")
    comparison = compare_runs(tmp_path)
    assert f"{WARMUP} reaches a full gradient norm of 0.5" in headline(comparison.axes["epochs"])
    assert sum("never fell below its value before training" in t for t in caveats(comparison)) == 2


def test_a_budget_that_cuts_a_schedule_decides_nothing(tmp_path: Path) -> None:
    """At 40 steps the growing batch is at epoch 1 of 4, and has not grown."""
    for seed in range(6):
        write_run(tmp_path, [1, 0.5, 0.4, 0.3, 0.2], seed=seed)
        rows = write_run(tmp_path, [1, 0.9, 0.6, 0.2, 0.1], seed=seed, steps=40,
                         scheduler="warmup_increase") / "record.jsonl"  # fmt: skip
        record = [json.loads(line) for line in rows.read_text().splitlines()]
        for row, size in zip(record, [8, 8, 16, 32, 64], strict=True):
            row["batch_size"] = size
        rows.write_text("".join(json.dumps(row) + "\n" for row in record))
    axes = compare_runs(tmp_path).axes
    assert "reaches a full gradient norm of" in headline(axes["epochs"])
    assert headline(axes["steps"]) == (
        "At equal steps (40), no group is named ahead, because that budget cuts schedules short: "
        f"{WARMUP} at epoch 1 of 4, batch size 8 of 64. Compare runs that were made for that "
        "budget, with steps=40."
    )


def test_five_seeds_are_too_few_even_if_they_agree(tmp_path: Path) -> None:
    comparison = compare_final_norms(
        tmp_path, {"decay_constant": [0.4] * 5, "warmup_increase": [0.2, 0.1] * 2 + [0.2]}
    )
    assert "smaller in 5 of 5 common seeds, too few to be sure)." in headline(
        comparison.axes["epochs"]
    )
    (caveat,) = caveats(comparison)
    assert "as few as 5 seeds in common" in caveat
    assert "p = 0.062" in caveat


def test_norms_cannot_be_distinguished_if_the_interval_contains_1(tmp_path: Path) -> None:
    above, below = [0.2, 0.3, 0.4] * 2, [0.1, 0.4, 0.35] * 2
    comparison = compare_final_norms(tmp_path, {"decay_constant": above, "warmup_increase": below})
    text = headline(comparison.axes["epochs"])
    assert f"cannot be distinguished: {WARMUP} (0.283) and {CONSTANT} (0.3), whose ratio is" in text
    assert "the first is smaller in 4 of 6 common seeds" in text


def test_the_lowest_mean_is_not_ahead_if_it_loses_in_paired_seeds(tmp_path: Path) -> None:
    norms = {"decay_constant": [0.5, 0.5, 0.1, 0.1, 0.1], "warmup_increase": [0.4, 0.4]}
    assert headline(compare_final_norms(tmp_path, norms).axes["epochs"]) == (
        f"At equal epochs (1), {CONSTANT} has the smallest mean norm (0.26), but in paired seeds "
        f"{WARMUP} is 1.25 times smaller (95 % interval 1.25 to 1.25; the first is smaller in 0 of "
        "2 common seeds, too few to be sure), so neither is ahead."
    )


def test_equal_norms_cannot_be_distinguished(tmp_path: Path) -> None:
    norms = {"decay_constant": [0.5, 0.1], "warmup_increase": [0.5, 0.1]}
    comparison = compare_final_norms(tmp_path, norms)
    assert "cannot be distinguished" in headline(comparison.axes["epochs"])


def test_the_speedup_of_the_best_group(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, [1, 1, 1, 0.5, 0.4], seed=seed)
        write_run(tmp_path, [1, 0.5, 0.3, 0.3, 0.3], seed=seed, scheduler="warmup_increase")
        write_run(tmp_path, [1, 1, 1, 1, 0.2], seed=seed, scheduler="mine")
    for threshold, sentence in {
        0.5: f"mine needs 1.33 times more epochs than {CONSTANT} to reach a norm of 0.5 "
        "(95 % interval 1.33 to 1.33).",
        0.4: f"mine needs as many epochs as {CONSTANT} to reach a norm of 0.4 "
        "(95 % interval 1 to 1).",
        0.3: "",  # "at least 1" is not informative
    }.items():
        comparison = compare_runs(tmp_path, thresholds=[threshold])
        assert speedup_sentence(comparison, comparison.axes["epochs"]) == sentence


def test_the_speedup_over_a_reference_that_is_censored(tmp_path: Path) -> None:
    for seed in range(6):
        write_run(tmp_path, [1, 1, 1, 1, 0.4], seed=seed)
        write_run(tmp_path, [1, 0.3, 0.3, 0.3, 0.3], seed=seed, scheduler="warmup_increase")
    for threshold, sentence in {
        0.5: f"{WARMUP} needs 4 times fewer epochs than {CONSTANT} to reach a norm of 0.5 "
        "(95 % interval 4 to 4).",
        0.3: f"{WARMUP} needs at least 4 times fewer epochs than {CONSTANT} to reach a norm of "
        f"0.3 (95 % interval), which {CONSTANT} does not reach in 6 of 6 common seeds.",
    }.items():
        comparison = compare_runs(tmp_path, thresholds=[threshold])
        assert speedup_sentence(comparison, comparison.axes["epochs"]) == sentence


def test_the_speedup_at_a_threshold_chosen_from_the_runs_is_not_stated(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path, [1, 1, 0.4], seed=seed)
        write_run(tmp_path, [1, 0.3, 0.3], seed=seed, scheduler="warmup_increase")
    comparison = replace(compare_runs(tmp_path, thresholds=[0.4]), fixed_thresholds=())
    assert speedup_sentence(comparison, comparison.axes["epochs"]) == ""


def test_selecting_the_best_of_many_groups_is_a_caveat(tmp_path: Path) -> None:
    norms = {name: [0.1] * 6 for name in ("mine", "yours", "theirs")}
    (caveat,) = caveats(compare_final_norms(tmp_path, norms))
    assert "the best of 3 groups looks better than it is" in caveat


def test_a_small_difference_is_shown_with_enough_digits(tmp_path: Path) -> None:
    norms = {"decay_constant": [0.2002] * 6, "warmup_increase": [0.2] * 6}
    text = headline(compare_final_norms(tmp_path, norms).axes["epochs"])
    assert "0.2, 1.001 times smaller than" in text
    assert "(95 % interval 1.001 to 1.001; smaller" in text


def test_a_norm_of_0_has_no_ratio(tmp_path: Path) -> None:
    norms = {"decay_constant": [0.2, 0.1], "warmup_increase": [0.0, 0.1]}
    comparison = compare_final_norms(tmp_path, norms)
    on = comparison.axes["epochs"]
    assert (
        f"{WARMUP} reaches a full gradient norm of 0.05 and {CONSTANT} one of 0.15; "
        "a norm of 0 has no ratio" in headline(on)
    )
    test = on.best_vs_second
    assert test is not None
    assert (test.wins, test.ties) == (1, 1)
    assert math.isnan(test.ratio)
    assert set(figures(comparison, axis="epochs")) == {"comparison", "differences"}
    assert "nan" not in render(comparison, tmp_path).partition("<script>")[0].lower()
    assert to_dict(comparison)["axes"]["epochs"]["best_against_second"]["ratio"] is None
