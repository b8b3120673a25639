"""Each file in ``conf/experiment`` expands to the intended runs."""

from __future__ import annotations

from functools import cache

import pytest

from accelerando.build import build_plan
from accelerando.composition import compose_runs, expand_overrides
from accelerando.config import RunSettings
from accelerando.identity import run_id
from helpers import ROOT, table_rows

FOUR = ["decay_constant", "decay_increase", "increase_increase", "warmup_increase"]
SHAPES = ["Constant", "InverseSqrt", "Cosine", "Linear", "Polynomial"]
CONTROLLED = {
    "small_constant": "decay_increase",
    "small_decay": "decay_increase",
    "small_increase": "increase_increase",
    "small_warmup": "warmup_increase",
    "increase_constant": "decay_increase",
}
BEST = {
    "digits": [
        ("decay_constant", "Cosine", 0.1),
        ("decay_increase", "Constant", 0.1),
        ("increase_increase", "Exponential", 1.0),
        ("warmup_increase", "WarmupConstant", 0.2),
    ],
    "fashion_mnist": [
        ("decay_constant", "Polynomial", 0.1),
        ("decay_increase", "Cosine", 0.1),
        ("increase_increase", "Exponential", 0.2),
        ("warmup_increase", "WarmupCosine", 0.2),
    ],
    "fashion_mnist_bn": [
        ("decay_constant", "Cosine", 0.1),
        ("decay_increase", "Cosine", 0.1),
        ("increase_increase", "Exponential", 0.2),
        ("warmup_increase", "WarmupCosine", 0.5),
    ],
}
"""The shapes with the lowest mean norm over the two seeds of ``shapes_...``, if both learned."""
CONTROLS = ["small_decay", "small_increase", "small_warmup", "increase_constant"]
CASES = ["cases_digits", "cases_fashion_mnist", "cases_fashion_mnist_bn"]
EVERY_SHAPE = [
    *((case, s, 0.1) for case in FOUR[:2]
      for s in ("Cosine", "Constant", "InverseSqrt", "Linear", "Polynomial")),
    *(("increase_increase", "Exponential", top) for top in (0.2, 0.5, 1.0)),
    *(("warmup_increase", s, top) for s in ("WarmupConstant", "WarmupCosine")
      for top in (0.2, 0.5, 1.0)),
]  # fmt: skip
TUNED = [
    ("decay_constant", "Constant", 1.0),
    ("decay_constant", "Cosine", 0.5),
    ("decay_constant", "Constant", 1.0),
    ("decay_increase", "Constant", 0.2),
    ("increase_increase", "Exponential", 2.0),
    ("warmup_increase", "WarmupConstant", 0.2),
]
EXPECTED = {
    # name: model, data, epochs, (scheduler, shape of the rate, its top), seeds
    "figure_1": ("resnet18", "cifar100", 300, [("decay_constant", s, 0.1) for s in SHAPES], 3),
    "figure_2": ("resnet18", "cifar100", 300, [("decay_increase", s, 0.1) for s in SHAPES], 3),
    "figure_3": ("resnet18", "cifar100", 300,
                 [("increase_increase", "Exponential", top) for top in (0.2, 0.5, 1.0)], 3),
    "figure_4": ("resnet18", "cifar100", 300,
                 [("warmup_increase", s, top) for s in ("WarmupConstant", "WarmupCosine")
                  for top in (0.2, 0.5, 1.0)], 3),
    "figure_5": ("resnet18", "cifar100", 300, [("increase_increase", "Exponential", 0.2)] * 3, 3),
    "figure_6": ("resnet18", "cifar100", 300, FOUR, 3),
    "wide_resnet": ("wide_resnet_28_10", "cifar100", 300, FOUR, 3),
    "cifar10": ("resnet18", "cifar10", 300, FOUR, 3),
    "tiny_imagenet": ("resnet18", "tiny_imagenet", 300, FOUR, 3),
    "imagenet": ("resnet34_imagenet", "imagenet", 90,
                 [("warmup_increase", s, 1.0) for s in ("WarmupConstant", "WarmupCosine")], 3),
    "shapes_digits": ("mlp", "digits", 100, EVERY_SHAPE, [100, 101]),
    "shapes_fashion_mnist": (("cnn", "cnn_bn"), "fashion_mnist", 20, EVERY_SHAPE, [100, 101]),
    "tuned_digits": ("mlp", "digits", 100, TUNED, 20),
    "cases_digits": ("mlp", "digits", 100,
                     [*BEST["digits"], "small_constant", "small_increase", "small_warmup"], 5),
    "cases_fashion_mnist": ("cnn", "fashion_mnist", 20, [*BEST["fashion_mnist"], *CONTROLS], 5),
    "cases_fashion_mnist_bn": ("cnn_bn", "fashion_mnist", 20,
                               [*BEST["fashion_mnist_bn"], *CONTROLS], 5),
}  # fmt: skip


@cache
def first_runs(name: str) -> list[RunSettings]:
    """Return the runs of an experiment with its first seed."""
    return compose_runs([f"+experiment={name}", f"seed={seeds_of(name)[0]}"])


@cache
def seeds_of(name: str) -> list[int]:
    """Return the seed of each run of an experiment, which is not composed."""
    runs = expand_overrides([f"+experiment={name}"])
    return [int(word.removeprefix("seed=")) for run in runs for word in run if "seed=" in word]


def test_every_experiment_has_a_test() -> None:
    assert {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_experiment_expands_to_its_runs_and_seeds(name: str) -> None:
    models, data, epochs, schedulers, seeds = EXPECTED[name]
    models = (models,) if isinstance(models, str) else models
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    assert sorted(seeds_of(name)) == sorted([*seeds] * len(models) * len(schedulers))
    found = first_runs(name)
    assert len(found) == len(models) * len(schedulers)
    assert len({run_id(config) for config in found}) == len(found)
    assert {config.model.name for config in found} == set(models)
    assert {(config.dataset.name, config.epochs) for config in found} == {(data, epochs)}
    assert {config.seed for config in found} == {seeds[0]}
    first = [config for config in found if config.model.name == models[0]]
    for config, wanted in zip(first, schedulers, strict=True):
        plan = build_plan(config)
        if isinstance(wanted, str):
            assert config.scheduler.name == wanted
        else:
            shape = config.scheduler.target["learning_rate"]["_target_"].rpartition(".")[2]
            top = max(float(plan.rates(epoch).max()) for epoch in range(plan.epochs))
            assert (config.scheduler.name, shape) == wanted[:2]
            assert top == pytest.approx(wanted[2])


PUBLISHED = [
    ("figure_1", 0, "i_constant"), ("figure_1", 1, "i_diminishing"),
    ("figure_1", 4, "i_polynomial2"), ("figure_2", 2, "ii_cosine"), ("figure_2", 3, "ii_linear"),
    ("figure_3", 2, "iii_double_max1.0"), ("figure_4", 1, "iv_constant_max0.5"),
    ("figure_4", 5, "iv_cosine_max1.0"), ("figure_5", 2, "iii_quadruple_max0.2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "reference"), PUBLISHED)
def test_totals_match_the_published_summary(name: str, number: int, reference: str) -> None:
    plan = build_plan(first_runs(name)[number])
    (expected,) = [row for row in table_rows("summary") if row["schedule"] == reference]
    assert plan.total_steps == int(expected["total_steps"])
    assert pytest.approx(float(expected["B_T"])) == plan.B_T
    assert pytest.approx(float(expected["V_T"])) == plan.V_T


def test_command_line_overrides_the_experiment() -> None:
    words = ["+experiment=figure_1", "seed=100,101", "dataset=digits", "model=mlp", "epochs=30"]
    found = compose_runs(words)
    assert len(found) == len(expand_overrides(words)) == 10
    assert {(c.model.name, c.dataset.name, c.epochs) for c in found} == {("mlp", "digits", 30)}
    assert {c.seed for c in found} == {100, 101}


@pytest.mark.parametrize("name", CASES)
def test_controls_change_one_thing(name: str) -> None:
    """A control shares either the learning rates or the batch sizes of its case."""
    found = {config.scheduler.name: build_plan(config) for config in first_runs(name)}
    epochs = found["decay_constant"].epochs
    controls = found.keys() & CONTROLLED.keys()
    assert len(controls) == len(found) - 4
    for control in controls:
        case = CONTROLLED[control]
        rates = [
            [float(found[n].rates(epoch)[0]) for epoch in range(epochs)] for n in (control, case)
        ]
        batches = [found[n].batch_sizes.tolist() for n in (control, case)]
        if control == "increase_constant":
            assert batches[0] == batches[1]
            assert set(rates[0]) == {rates[1][0]}
        else:
            assert rates[0] == rates[1]
            assert set(batches[0]) == {batches[1][0]}


@pytest.mark.parametrize("name", CASES)
def test_variants_are_chosen_and_evaluated_on_different_seeds(name: str) -> None:
    """The budget, the data and the models are the same."""
    shapes = name.replace("cases", "shapes").removesuffix("_bn")  # which has both networks
    assert not set(seeds_of(name)) & set(seeds_of(shapes))
    budgets, of_choice = (
        {(c.epochs, c.dataset.name, c.dataset.examples, c.model.name) for c in first_runs(which)}
        for which in (name, shapes)
    )
    assert budgets <= of_choice


def test_published_schedulers_can_be_overridden() -> None:
    (config,) = compose_runs(
        ["scheduler=published/i_linear", "scheduler.learning_rate.initial=0.3"]
    )
    assert (config.scheduler.name, config.scheduler.target["learning_rate"]["initial"]) == (
        "decay_constant",
        0.3,
    )
    (config,) = compose_runs(["scheduler=published/iv_cosine_0.5", "scheduler/batch_size=constant"])
    assert config.scheduler.target["batch_size"]["_target_"].endswith("ConstantBatch")


@pytest.mark.parametrize("name", CASES)
def test_stage_lengths_are_ten_percent_of_the_run(name: str) -> None:
    """Stages and warm-ups take 10 % of the run, as in the published runs of 300 epochs."""
    for config in first_runs(name):
        target = config.scheduler.target
        for shape in (target["batch_size"], target["learning_rate"]):
            for length in ("interval", "warmup_epochs"):
                if shape.get(length) is not None:
                    assert shape[length] * 10 == config.epochs


@pytest.mark.parametrize("case", ["i_published", "i", "ii", "iii", "iv"])
def test_every_case_is_tuned_with_the_same_rates_and_number_of_trials(case: str) -> None:
    assert sorted(seeds_of(f"tune/{case}")) == [100] * 20 + [101] * 20
    runs = first_runs(f"tune/{case}")
    assert len({run_id(run) for run in runs}) == 20
    assert {round(build_plan(run).terms().largest_rate, 3) for run in runs} == {0.1, 0.2, 0.5, 1, 2}
