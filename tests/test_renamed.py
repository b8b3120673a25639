"""Renamed shapes keep their run ids, and settings with a former name keep their meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando import schedule
from accelerando.build import build_plan
from accelerando.identity import run_id
from accelerando.schedule.renamed import RENAMED, current_target
from helpers import compose_settings
from synthetic_runs import load_groups, write_run

RUN_IDS = {
    "scheduler/learning_rate=diminishing": "58f19b0856",
    "scheduler/learning_rate=list scheduler.learning_rate.values=[[0,0.1],[3,0.2]]": "7b78b5e78e",
    "scheduler/learning_rate=linear_scaling": "9dbb82af59",
    "scheduler/learning_rate=sqrt_scaling": "39c6d70de4",
    "scheduler/batch_size=list scheduler.batch_size.values=[[0,8],[3,16]]": "ea04165583",
}
"""Run ids computed before the shapes were renamed."""


@pytest.mark.parametrize("overrides", RUN_IDS)
def test_run_ids_are_those_of_the_former_names(overrides: str) -> None:
    common = ["model=mlp", "scheduler=decay_increase", "epochs=20", *overrides.split()]
    settings = compose_settings(*common)
    assert run_id(settings) == RUN_IDS[overrides]
    former_names = {current: former for former, current in RENAMED.items()}
    former_targets = [
        f"scheduler.{shape}._target_={former_names[target]}"
        for shape in ("batch_size", "learning_rate")
        if (target := settings.tree["scheduler"][shape]["_target_"]) in former_names
    ]
    assert len(former_targets) == 1
    former = compose_settings(*common, *former_targets)
    assert run_id(former) == RUN_IDS[overrides]
    assert build_plan(former).batch_sizes.tolist() == build_plan(settings).batch_sizes.tolist()


@pytest.mark.parametrize("former", RENAMED)
def test_former_names_resolve_to_the_current_class(former: str) -> None:
    current_class = getattr(schedule, RENAMED[former].rpartition(".")[2])
    assert getattr(schedule, former.rpartition(".")[2]) is current_class


def test_unknown_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        schedule.Unknown  # noqa: B018
    assert current_target("somewhere.else.Diminishing") == "somewhere.else.Diminishing"


def test_runs_with_former_and_current_names_are_one_group(tmp_path: Path) -> None:
    for seed, name in enumerate(("Diminishing", "InverseSqrt")):
        target = {"scheduler.learning_rate._target_": f"accelerando.schedule.{name}"}
        write_run(tmp_path, [1.0, 0.5], seed=seed, settings=target)
    (only,) = load_groups(tmp_path)
    assert (only.name, only.seeds) == ("decay_constant InverseSqrt", [0, 1])
