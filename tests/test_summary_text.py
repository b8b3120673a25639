"""The sentences of a comparison: who is ahead, how sure that is, and what to know before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerando.compare.comparison import Comparison
from accelerando.compare.export import tree
from accelerando.compare.pictures import figures
from accelerando.compare.report import render
from accelerando.compare.summary_text import caveats, headline, speedup_sentence
from made_runs import compared, write

CONSTANT, WARMUP = "(i) constant batch, decaying rate", "(iv) increasing batch, warm-up rate"


def ended(root: Path, norms: Mapping[str, Sequence[float]]) -> Comparison:
    """Runs that end at the given norms, one a seed."""
    for name, values in norms.items():
        for seed, norm in enumerate(values):
            write(root, [2.0, norm], scheduler=name, seed=seed)
    return compared(root)


def test_a_clear_answer_of_enough_seeds(tmp_path: Path) -> None:
    seeds = [0.2 + k / 100 for k in range(6)]
    halves = [value / 2 for value in seeds]
    found = ended(tmp_path, {"decay_constant": seeds, "warmup_increase": halves})
    assert headline(found.axes["epochs"]) == (
        f"At equal epochs (1) {WARMUP} reaches a full gradient norm of 0.113, 2 times smaller than "
        f"that of {CONSTANT} (95 % interval 2 to 2; smaller in 6 of 6 common seeds)."
    )
    assert caveats(found) == []


def test_a_network_that_learned_nothing_is_told_of(tmp_path: Path) -> None:
    """Its gradient may be the smallest of all."""
    learned, dead = [0.2 + k / 100 for k in range(6)], [1.99, 1.98, *[0.1] * 4]
    (caution,) = caveats(ended(tmp_path, {"decay_constant": learned, "warmup_increase": dead}))
    assert caution.startswith(f"{WARMUP}: 2 of 6 runs learned nothing, their loss ends where it")


def test_few_seeds_that_agree_are_too_few_to_be_sure(tmp_path: Path) -> None:
    found = ended(
        tmp_path, {"decay_constant": [0.4] * 5, "warmup_increase": [0.2, 0.1] * 2 + [0.2]}
    )
    assert "smaller in 5 of 5 common seeds, too few to be sure)." in headline(found.axes["epochs"])
    (caution,) = caveats(found)
    assert "as few as 5 seeds in common" in caution
    assert "p = 0.062" in caution


def test_norms_whose_interval_holds_1_cannot_be_told_apart(tmp_path: Path) -> None:
    above, below = [0.2, 0.3, 0.4] * 2, [0.1, 0.4, 0.35] * 2
    found = ended(tmp_path, {"decay_constant": above, "warmup_increase": below})
    said = headline(found.axes["epochs"])
    assert f"cannot be told apart: {WARMUP} (0.283) and {CONSTANT} (0.3), whose ratio is" in said
    assert "the first is smaller in 4 of 6 common seeds" in said


def test_who_is_behind_on_the_common_seeds_is_not_said_to_be_ahead(tmp_path: Path) -> None:
    """The smallest mean is that of other seeds than those in which they meet."""
    seeds = {"decay_constant": [0.5, 0.5, 0.1, 0.1, 0.1], "warmup_increase": [0.4, 0.4]}
    said = headline(ended(tmp_path, seeds).axes["epochs"])
    assert f"{CONSTANT} has the smallest mean (0.26), but seed by seed {WARMUP} is smaller" in said
    assert "so neither can be said to be ahead (1.25 times; 95 % interval 1.25 to 1.25; " in said
    assert "the first is smaller in 0 of 2 common seeds" in said


def test_equal_norms_cannot_be_told_apart(tmp_path: Path) -> None:
    found = ended(tmp_path, {"decay_constant": [0.5, 0.1], "warmup_increase": [0.5, 0.1]})
    assert "cannot be told apart" in headline(found.axes["epochs"])


def test_how_much_less_the_best_needs(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, [1, 1, 1, 0.5, 0.4], seed=seed)
        write(tmp_path, [1, 0.5, 0.3, 0.3, 0.3], seed=seed, scheduler="warmup_increase")
        write(tmp_path, [1, 1, 1, 1, 0.2], seed=seed, scheduler="mine")
    for level, said in {
        0.5: f"mine comes below 0.5 with 1.33 times more epochs than {CONSTANT} (95 % interval 1.33"
        " to 1.33).",
        0.4: f"mine comes below 0.4 with as many epochs as {CONSTANT} (95 % interval 1 to 1).",
        0.3: "",  # "at least 1" says nothing
    }.items():
        found = compared(tmp_path, thresholds=[level])
        assert speedup_sentence(found, found.axes["epochs"]) == said
    (tmp_path / "two").mkdir()
    for seed in range(2):
        write(tmp_path / "two", [1, 1, 1, 1, 0.4], seed=seed)
        write(tmp_path / "two", [1, 0.3, 0.3, 0.3, 0.3], seed=seed, scheduler="warmup_increase")
    for level, words in {
        0.5: "4 times fewer epochs than", 0.3: "at least 4 times fewer epochs than"
    }.items():  # fmt: skip
        found = compared(tmp_path / "two", thresholds=[level])
        assert f"below {level:g} with {words}" in speedup_sentence(found, found.axes["epochs"])
    assert "which never gets there in 2 of 2 common seeds" in speedup_sentence(
        found, found.axes["epochs"]
    )


def test_the_best_of_many_is_said_to_flatter(tmp_path: Path) -> None:
    found = ended(tmp_path, {name: [0.1] * 6 for name in ("mine", "yours", "theirs")})
    (caution,) = caveats(found)
    assert "picking the best of 3 groups" in caution


def test_a_small_difference_is_told_with_the_digits_that_it_takes(tmp_path: Path) -> None:
    found = ended(tmp_path, {"decay_constant": [0.2002] * 6, "warmup_increase": [0.2] * 6})
    assert "0.2, 1.001 times smaller than" in headline(found.axes["epochs"])
    assert "(95 % interval 1.001 to 1.001; smaller" in headline(found.axes["epochs"])


def test_a_norm_of_0_has_no_ratio(tmp_path: Path) -> None:
    found = ended(tmp_path, {"decay_constant": [0.2, 0.1], "warmup_increase": [0.0, 0.1]})
    on = found.axes["epochs"]
    said = headline(on)
    assert f"{WARMUP} reaches a full gradient norm of 0.05, {CONSTANT} one of 0.15; to a" in said
    assert on.duel is not None
    assert (on.duel.wins, on.duel.ties) == (1, 1)
    assert math.isnan(on.duel.ratio)
    assert set(figures(found, axis="epochs")) == {"comparison", "differences"}
    assert "nan" not in render(found, tmp_path).partition("<script>")[0].lower()
    assert tree(found)["axes"]["epochs"]["best_against_second"]["ratio"] is None
