"""Properties of every schedule, checked by hypothesis."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelerando.schedule import (
    BatchSampler,
    BatchScaled,
    BatchSize,
    Constant,
    ConstantBatch,
    Cosine,
    Exponential,
    ExponentialBatch,
    InverseSqrt,
    LearningRate,
    Linear,
    LinearBatch,
    Plan,
    Polynomial,
    Scheduler,
    Seesaw,
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupPolynomial,
)

rates = st.floats(1e-4, 10)


@st.composite
def batch_sizes(draw: st.DrawFn, epochs: int, examples: int) -> BatchSize:
    initial = draw(st.integers(1, examples))
    interval = draw(st.integers(1, epochs))
    final = draw(st.none() | st.integers(initial, examples))
    maximum = draw(st.none() | st.integers(initial, 2 * examples))
    growth = draw(st.none() | st.floats(1.001, 5))
    exponential = ExponentialBatch(
        initial=initial, interval=interval, growth=growth, final=final, maximum=maximum
    )
    linear = LinearBatch(initial=initial, interval=interval, final=final, maximum=maximum)
    return draw(st.sampled_from([ConstantBatch(initial=initial), exponential, linear]))


@st.composite
def learning_rates(draw: st.DrawFn, epochs: int) -> LearningRate:
    initial, power = draw(rates), draw(st.floats(0.1, 4))
    interval = draw(st.integers(1, epochs))
    peak = initial * draw(st.floats(1, 100))
    shapes: list[LearningRate] = [
        Constant(initial=initial),
        InverseSqrt(initial=initial),
        Linear(initial=initial),
        Polynomial(initial=initial, power=power),
        Cosine(initial=initial, minimum=initial * draw(st.floats(0, 1))),
        Exponential(initial=initial, interval=interval, final=peak),
        BatchScaled(initial=initial, power=power),
    ]
    if epochs >= 2:
        warmup = draw(st.integers(2, epochs))
        stair = draw(st.integers(1, warmup - 1))
        kinds = (WarmupConstant, WarmupCosine, WarmupLinear, WarmupPolynomial)
        shapes += [
            kind(initial=initial, peak=peak, warmup_epochs=warmup, warmup_interval=stair)
            for kind in kinds
        ]
    return draw(st.sampled_from(shapes))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    epochs, examples = draw(st.integers(1, 12)), draw(st.integers(1, 60))
    scheduler = Scheduler(
        batch_size=draw(batch_sizes(epochs, examples)), learning_rate=draw(learning_rates(epochs))
    )
    return scheduler.bind(examples=examples, epochs=epochs)


@given(plans())
def test_positions_and_settings_are_consistent(plan: Plan) -> None:
    positions = list(plan.positions())
    assert len(positions) == plan.total_steps == plan.steps_per_epoch.sum()
    assert [position.step for position in positions] == list(range(plan.total_steps))
    assert plan.batch_sizes.min() >= 1
    assert plan.largest_batch <= plan.examples
    for position in positions:
        assert plan.position_after(position.step) == position == plan.at(*position[:2])
        setting = plan.setting(position)
        assert setting.batch_size == plan.batch_sizes[position.epoch]
        assert math.isfinite(setting.learning_rate)
        assert setting.learning_rate >= 0


@given(plans())
def test_setting_matches_the_rates_of_its_epoch(plan: Plan) -> None:
    for position in plan.positions():
        step_in_epoch = position.step - int(plan.first_steps[position.epoch])
        rate = plan.rates(position.epoch)[step_in_epoch]
        assert math.isclose(plan.setting(position).learning_rate, rate, rel_tol=1e-12)


@given(plans(), st.data())
def test_terms_are_sums_over_steps(plan: Plan, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, plan.total_steps))
    used = [plan.setting(position) for position in plan.positions()][:steps]
    total = math.fsum(setting.learning_rate for setting in used)
    assume(total > 1e-300)
    squares = math.fsum(s.learning_rate**2 / s.batch_size for s in used)
    terms = plan.terms(steps)
    assert math.isclose(terms.bias, 1 / total, rel_tol=1e-9)
    assert math.isclose(terms.variance, squares / total, rel_tol=1e-9)
    assert math.isclose(terms.largest_rate, max(s.learning_rate for s in used), rel_tol=1e-12)


@given(plans(), st.integers(0, 5), st.integers(1, 4), st.data())
def test_sampler_follows_the_plan(
    plan: Plan, seed: int, world_size: int, data: st.DataObject
) -> None:
    all_batches = list(BatchSampler(plan, seed=seed))
    assert len(all_batches) == plan.total_steps
    for epoch in range(plan.epochs):
        batches = all_batches[plan.first_steps[epoch] : plan.first_steps[epoch + 1]]
        assert sorted(chain.from_iterable(batches)) == list(range(plan.examples))
        assert {len(batch) for batch in batches[:-1]} <= {int(plan.batch_sizes[epoch])}
        of_epoch = BatchSampler(plan, seed=seed, start=plan.at(epoch, 0), one_epoch=True)
        assert list(of_epoch) == batches
        assert len(of_epoch) == len(batches)
    position = data.draw(st.sampled_from(list(plan.positions())))
    resumed = BatchSampler(plan, seed=seed, start=position)
    assert list(resumed) == all_batches[position.step :]
    assert len(resumed) == plan.total_steps - position.step
    shards = [
        list(BatchSampler(plan, seed=seed, rank=r, world_size=world_size))
        for r in range(world_size)
    ]
    for batch, *parts in zip(all_batches, *shards, strict=True):
        assert list(chain.from_iterable(parts)) == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=50)
@given(
    st.integers(2, 40),
    st.integers(1, 60),
    st.sampled_from(["sgd", "normalised"]),
    st.sampled_from([Cosine(initial=1.0), Linear(initial=1.0), Polynomial(initial=1.0, power=3)]),
)
def test_seesaw_stays_within_a_factor_of_two_of_its_decay(
    epochs: int, initial: int, equivalence: str, decay: LearningRate
) -> None:
    """Compare rate / batch size ("sgd") or rate / √(batch size) ("normalised") with the decay."""
    examples = 64
    constant = ConstantBatch(initial=initial)
    plan = Seesaw(batch_size=constant, learning_rate=decay, equivalence=equivalence).bind(
        examples=examples, epochs=epochs
    )
    decaying = Scheduler(batch_size=constant, learning_rate=decay).bind(
        examples=examples, epochs=epochs
    )
    ratio = plan.batch_sizes / initial
    assert (np.log2(ratio) % 1 == 0).all()
    assert plan.largest_batch <= examples
    for epoch in range(epochs):
        rate = plan.rates(epoch)[0]
        # the equivalent rate at the initial batch size: sgd b ~ 1/η, normalised b ~ 1/η²
        trade = ratio[epoch] if equivalence == "sgd" else math.sqrt(ratio[epoch])
        equivalent = rate / trade
        assert decaying.rates(epoch)[0] <= equivalent * (1 + 1e-9)
        assert equivalent <= 2 * decaying.rates(epoch)[0] * (1 + 1e-9)
