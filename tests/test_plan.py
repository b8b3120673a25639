"""Plans agree with published tables (300 epochs of 50,000 examples) and hand computation."""

from __future__ import annotations

import math

import pytest

from accelerando.schedule import (
    BatchSize,
    Constant,
    ConstantBatch,
    Cosine,
    Exponential,
    ExponentialBatch,
    InverseSqrt,
    LearningRate,
    Linear,
    Plan,
    Polynomial,
    Progress,
    Scheduler,
    Seesaw,
    Setting,
    WarmupConstant,
    WarmupCosine,
)
from accelerando.schedule.stages import DEFAULT_LENGTHS
from helpers import TABLES, table_rows

DOUBLE = ExponentialBatch(initial=8, growth=2, interval=30)
CONSTANT = ConstantBatch(initial=128)


def growing_rate(peak: float) -> Exponential:
    return Exponential(initial=0.1, final=peak, interval=30)


def warmup(shape: type[WarmupConstant], peak: float) -> WarmupConstant:
    return shape(initial=0.1, peak=peak, warmup_epochs=30, warmup_interval=3)


PUBLISHED: dict[str, tuple[BatchSize, LearningRate]] = {
    "i_constant": (CONSTANT, Constant(initial=0.1)),
    "i_diminishing": (CONSTANT, InverseSqrt(initial=0.1)),
    "i_polynomial2": (CONSTANT, Polynomial(initial=0.1, power=2)),
    "ii_constant": (DOUBLE, Constant(initial=0.1)),
    "ii_cosine": (DOUBLE, Cosine(initial=0.1)),
    "ii_linear": (DOUBLE, Linear(initial=0.1)),
    "iii_double_max0.2": (DOUBLE, growing_rate(0.2)),
    "iii_double_max1.0": (DOUBLE, growing_rate(1.0)),
    "iii_quadruple_max0.2": (
        ExponentialBatch(initial=8, growth=4, final=4096, interval=30),
        Exponential(initial=0.1, growth=1.9, final=0.2, interval=30),
    ),
    "iv_constant_max0.2": (DOUBLE, warmup(WarmupConstant, 0.2)),
    "iv_constant_max0.5": (DOUBLE, warmup(WarmupConstant, 0.5)),
    "iv_cosine_max0.2": (DOUBLE, warmup(WarmupCosine, 0.2)),
    "iv_cosine_max1.0": (DOUBLE, warmup(WarmupCosine, 1.0)),
}


def published_plan(name: str) -> Plan:
    batch_size, learning_rate = PUBLISHED[name]
    return Scheduler(batch_size=batch_size, learning_rate=learning_rate).bind(
        examples=50_000, epochs=300
    )


def test_every_table_has_a_test() -> None:
    assert {path.stem for path in TABLES.glob("*.csv")} == {*PUBLISHED, "summary"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_epochs_match_the_published_table(name: str) -> None:
    plan = published_plan(name)
    for row in table_rows(name):
        epoch = int(row["epoch"])
        assert plan.batch_sizes[epoch] == int(row["batch_size"])
        assert plan.steps_per_epoch[epoch] == int(row["steps_in_epoch"])
        assert plan.first_steps[epoch + 1] == int(row["steps_so_far"])
        rates = plan.rates(epoch)
        assert rates[0] == pytest.approx(float(row["lr_first_step"]), rel=1e-9)
        assert rates[-1] == pytest.approx(float(row["lr_last_step"]), rel=1e-9)


@pytest.mark.parametrize("row", table_rows("summary"), ids=lambda row: row["schedule"])
def test_totals_match_the_published_summary(row: dict[str, str]) -> None:
    plan = published_plan(row["schedule"])
    assert plan.total_steps == int(row["total_steps"])
    assert pytest.approx(float(row["B_T"]), rel=1e-9) == plan.B_T
    assert pytest.approx(float(row["V_T"]), rel=1e-9) == plan.V_T
    largest = max(float(epoch["lr_first_step"]) for epoch in table_rows(row["schedule"]))
    assert plan.terms().largest_rate == pytest.approx(largest, rel=1e-9)


@pytest.mark.parametrize("name", ["i_diminishing", "ii_linear", "iv_cosine_max1.0"])
def test_terms_match_the_sum_over_single_steps(name: str) -> None:
    batch_size, learning_rate = PUBLISHED[name]
    scheduler = Scheduler(batch_size=batch_size, learning_rate=learning_rate)
    plan = scheduler.bind(examples=4099, epochs=300)
    settings = [plan.setting(position) for position in plan.positions()]
    assert len(settings) == plan.total_steps
    total = math.fsum(s.learning_rate for s in settings)
    squares = math.fsum(s.learning_rate**2 / s.batch_size for s in settings)
    assert pytest.approx(1 / total, rel=1e-12) == plan.B_T
    assert pytest.approx(squares / total, rel=1e-12) == plan.V_T


def test_positions_cover_every_example_once_per_epoch() -> None:
    scheduler = Scheduler(
        batch_size=ExponentialBatch(initial=3, growth=2, interval=1),
        learning_rate=Constant(initial=0.1),
    )
    plan = scheduler.bind(examples=10, epochs=3)
    assert list(plan.positions()) == [
        (0, 0, 0), (0, 3, 1), (0, 6, 2), (0, 9, 3),
        (1, 0, 4), (1, 6, 5),
        (2, 0, 6),
    ]  # fmt: skip
    assert plan.batch_sizes.tolist() == [3, 6, 10]
    assert "stops growing at 10" in plan.notes[0]


def test_seesaw_rejects_a_decay_to_zero() -> None:
    decay = Polynomial(initial=0.1, power=400)
    with pytest.raises(ValueError, match=r"learning_rate must stay above 0.* epoch 9 of 10"):
        Seesaw(batch_size=ConstantBatch(initial=8), learning_rate=decay).bind(
            examples=64, epochs=10
        )


def test_last_setting_is_the_setting_of_the_previous_step() -> None:
    scheduler = Scheduler(
        batch_size=ExponentialBatch(initial=4, growth=2, interval=1),
        learning_rate=Linear(initial=1.0),
    )
    plan = scheduler.bind(examples=10, epochs=2)  # 3 steps of 4, 2 steps of 8
    assert plan.last_setting(Progress()) == Setting(4, 1.0)
    assert plan.last_setting(Progress(1, 0, 3)) == plan.setting(Progress(0, 8, 2))
    assert plan.last_setting(Progress(2, 0, 5)) == plan.setting(Progress(1, 8, 4))


@pytest.mark.parametrize(("epoch", "offset"), [(0, 3), (0, 12), (1, 4), (2, 4), (2, 8), (3, 0)])
def test_at_rejects_offsets_where_no_step_starts(epoch: int, offset: int) -> None:
    scheduler = Scheduler(
        batch_size=ExponentialBatch(initial=4, growth=2, interval=1),
        learning_rate=Constant(initial=0.1),
    )
    plan = scheduler.bind(examples=10, epochs=2)
    assert plan.at(2, 0) == Progress(2, 0, 5)
    with pytest.raises(ValueError, match=f"no step of this plan starts at epoch {epoch}, offset"):
        plan.at(epoch, offset)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 99, 101])
def test_short_runs_have_finite_learning_rates(epochs: int) -> None:
    interval = DEFAULT_LENGTHS["stage"](epochs)
    shapes = [
        WarmupCosine(
            initial=0.1,
            peak=0.5,
            warmup_epochs=DEFAULT_LENGTHS["warmup"](epochs),
            warmup_interval=DEFAULT_LENGTHS["stair"](epochs),
        ),
        Exponential(initial=0.1, final=0.5, interval=interval),
    ]
    sizes = ExponentialBatch(initial=8, growth=2, interval=interval)
    for shape in shapes:
        plan = Scheduler(batch_size=sizes, learning_rate=shape).bind(examples=61, epochs=epochs)
        rates = [plan.setting(position).learning_rate for position in plan.positions()]
        assert all(math.isfinite(rate) and 0 <= rate <= 0.5 + 1e-12 for rate in rates)
