"""Name, group, tags and notes of a run in W&B."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accelerando.config import RunSettings
from accelerando.runs.folder import State, Status
from accelerando.wandb_mirror.run_metadata import run_metadata

Settings = Callable[..., RunSettings]


def metadata(config: RunSettings, overrides: list[str]) -> dict[str, Any]:
    """The metadata of a run of seed 3."""
    names = dict.fromkeys(("run", "dataset", "model"), "")
    state = State(
        Status.RUNNING, **names, scheduler=config.scheduler.name, seed=3, epochs=1, steps=1
    )
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


@pytest.mark.parametrize("command_line", NAMES)
def test_name_and_group_distinguish_schedulers(command_line: str, settings: Settings) -> None:
    """A run is tagged with a case of the paper only if its shapes are those of the case."""
    (group, case), overrides = NAMES[command_line], command_line.split()
    shown = metadata(settings(*overrides), [*overrides, "seed=3"])
    assert (shown["group"], shown["name"]) == (group, f"{group}-seed3")
    assert [tag for tag in shown["tags"] if tag.startswith("case")] == [case] * bool(case)


def test_names_stay_within_the_length_limit_of_wandb(settings: Settings) -> None:
    values = [[epoch, 0.1] for epoch in range(50)]
    overrides = ["scheduler/learning_rate=list", f"scheduler.learning_rate.values={values}"]
    assert len(metadata(settings(*overrides), overrides)["name"]) < 128


def test_notes_default_to_the_command_line(settings: Settings) -> None:
    assert metadata(settings(), ["seed=3"])["notes"] == "python train.py seed=3"
    assert metadata(settings("tracking.notes=mine"), ["seed=3"])["notes"] == "mine"
