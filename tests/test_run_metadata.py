"""How a run looks in W&B: what tells it from others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accelerando.config import RunSettings
from accelerando.runs.folder import State
from accelerando.wandb_mirror.run_metadata import run_metadata

Settings = Callable[..., RunSettings]


def looked(config: RunSettings, overrides: list[str]) -> dict[str, Any]:
    """The look of a run of seed 3."""
    known = dict.fromkeys(("status", "run", "dataset", "model"), "")
    state = State(**known, scheduler=config.scheduler.name, seed=3, epochs=1, steps=1)
    state.overrides = overrides
    return run_metadata(state, config.tree)


NAMES = {
    "": ("warmup_increase", "case iv"),
    "scheduler=published/iv_cosine_0.5": ("warmup_increase iv_cosine_0.5", "case iv"),
    "scheduler=decay_constant scheduler/learning_rate=linear": (
        "decay_constant rate=linear",
        "case i",
    ),
    "scheduler/learning_rate=constant": ("warmup_increase rate=constant", None),
    "scheduler/batch_size=linear": ("warmup_increase batch=linear", None),
    "scheduler.learning_rate.peak=0.30000001 scheduler.batch_size.growth=3": (
        "warmup_increase batch.growth=3 rate.peak=0.3",
        "case iv",
    ),
    "scheduler=control/small_warmup": ("small_warmup", None),
}


@pytest.mark.parametrize("words", NAMES)
def test_names_tell_schedulers_apart(words: str, settings: Settings) -> None:
    """And a run is of one of the paper's cases where its shapes are those of the case."""
    (group, case), overrides = NAMES[words], words.split()
    shown = looked(settings(*overrides), [*overrides, "seed=3"])
    assert (shown["group"], shown["name"]) == (group, f"{group}-seed3")
    assert [tag for tag in shown["tags"] if tag.startswith("case")] == [case] * bool(case)


def test_names_are_no_longer_than_wandb_allows(settings: Settings) -> None:
    values = [[epoch, 0.1] for epoch in range(50)]
    words = ["scheduler/learning_rate=list", f"scheduler.learning_rate.values={values}"]
    assert len(looked(settings(*words), words)["name"]) < 128


def test_notes_are_the_command_line_unless_given(settings: Settings) -> None:
    assert looked(settings(), ["seed=3"])["notes"] == "python train.py seed=3"
    assert looked(settings("tracking.notes=mine"), ["seed=3"])["notes"] == "mine"
