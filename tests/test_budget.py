"""A budget of steps determines the length of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf.errors import OmegaConfBaseException

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.entry import explain
from accelerando.identity import run_id

Settings = Callable[..., RunSettings]


@pytest.mark.parametrize(
    ("scheduler", "steps", "epochs"),
    [
        ("decay_constant", 1200, 100),  # 12 steps of 128 of the 1,437 digits
        ("decay_constant", 1199, 99),
        ("decay_constant", 12, 1),
        ("control/small_warmup", 1200, 6),  # 180 steps of 8
    ],
)
def test_the_longest_run_within_the_steps(
    scheduler: str, steps: int, epochs: int, settings: Settings
) -> None:
    assert settings(f"scheduler={scheduler}", f"steps={steps}").epochs == epochs


@pytest.mark.parametrize("scheduler", ["warmup_increase", "increase_increase", "decay_increase"])
@pytest.mark.parametrize("steps", [380, 1200, 3630])
def test_schedules_are_refitted_to_the_budget(
    scheduler: str, steps: int, settings: Settings
) -> None:
    run = settings(f"scheduler={scheduler}", f"steps={steps}")
    plan = build_plan(run)
    assert 0.8 * steps <= plan.total_steps <= steps
    stages = len(set(plan.batch_sizes.tolist()))
    assert stages >= 7  # as in a run of default length, and not the first few of its stages
    longer = settings(f"scheduler={scheduler}", f"epochs={run.epochs + 1}")
    assert build_plan(longer).total_steps > steps


def test_a_budget_and_the_same_number_of_epochs_are_the_same_run(settings: Settings) -> None:
    assert run_id(settings("steps=1098")) == run_id(settings("epochs=39"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=3"], "steps must be at least 180, the steps of one epoch, got 3"),
        (["steps=-1"], "steps must be at least 1, got -1"),
        (["steps=10000000"], "steps=10000000 is more than 100000 epochs"),
        (["steps=300", "scheduler.batch_size.interval=40"], "steps=300 is too few"),
        (["steps=300", "scheduler.batch_size.initial=0"], "initial must be at least 1, got 0"),
        (["steps=300", "epochs=100"], "steps=300 and epochs=100 both set the length of the run"),
    ],
)
def test_impossible_budgets_are_explained(
    overrides: list[str], message: str, settings: Settings
) -> None:
    with pytest.raises((UsageError, OmegaConfBaseException)) as raised:
        build_plan(settings(*overrides))
    assert message in explain(raised.value)
    assert "UsageError" not in explain(raised.value)
