"""Names and labels of schedulers, which do not depend on the runs they are compared with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from accelerando import packaged_schedulers
from accelerando.composition import compose_runs
from accelerando.identity import run_id
from accelerando.packaged_schedulers import defining_files, flatten, scheduler_files, shape_files
from accelerando.plotting import group_colours, group_styles
from accelerando.scheduler_names import (
    DisplayName,
    display_values,
    is_display,
    paper_case,
    scheduler_name,
    variant_markers,
)
from helpers import ROOT
from synthetic_runs import load_groups, write_run

NORMS = [1.0, 0.5, 0.2]
FOLDER = ROOT / "conf" / "scheduler"
OPTIONS = {
    folder: [
        path.relative_to(FOLDER).with_suffix("").as_posix()
        for path in sorted((FOLDER / folder).glob("*.yaml"))
    ]
    for folder in (".", "control", "extra", "published", "tuned")
}
LABELS = {
    "decay_constant": "(i) constant batch, decaying rate",
    "decay_increase": "(ii) increasing batch, decaying rate",
    "increase_increase": "(iii) increasing batch, increasing rate",
    "warmup_increase": "(iv) increasing batch, warm-up rate",
}


def composed_settings(*overrides: str) -> list[dict[str, Any]]:
    """The settings that Hydra composes, by dotted name."""
    return [flatten(settings.tree) for settings in compose_runs(overrides)]


def named(settings: dict[str, Any]) -> DisplayName:
    return scheduler_name(settings, settings["epochs"])


def without_display(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as a run recorded them before display settings existed."""
    return {key: value for key, value in settings.items() if not is_display(key)}


@pytest.fixture
def conf_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of ``conf/`` that takes the place of the packaged one."""
    copy = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", copy)
    caches = (packaged_schedulers._composed, packaged_schedulers._read, defining_files,
              shape_files, variant_markers)  # fmt: skip
    monkeypatch.setattr(packaged_schedulers, "conf_folder", lambda: copy)
    for cache in caches:
        cache.cache_clear()
    yield copy
    for cache in caches:
        cache.cache_clear()


def test_packaged_files_compose_as_in_hydra() -> None:
    options = [option for folder in OPTIONS.values() for option in folder]
    assert len(scheduler_files()) == len(options)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for option in options:
            tree = OmegaConf.to_container(compose(f"scheduler/{option}").scheduler)
            assert flatten(tree) in scheduler_files()  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 20, 300])
def test_packaged_schedulers_have_no_differences(epochs: int) -> None:
    options = [*OPTIONS["."], *OPTIONS["control"], *OPTIONS["extra"]]
    variants = {
        "small_increase learning_rate.final=1.0",
        "small_warmup WarmupCosine learning_rate.peak=0.2",
        "small_warmup WarmupCosine learning_rate.peak=0.5",
    }
    for settings in composed_settings(f"scheduler={','.join(options)}", f"epochs={epochs}"):
        name = settings["scheduler.name"]
        assert named(settings).name in {name, *variants}
        if name in LABELS:
            assert named(settings).label == LABELS[name]


@pytest.mark.parametrize(
    ("overrides", "label"),
    [("scheduler=published/iv_constant_1.0", "(iv) warm-up constant, peak 1.0"),
     ("scheduler=published/iv_constant_1.0 scheduler.learning_rate.peak=1",
      "(iv) warm-up constant, peak 1.0"),
     ("scheduler=published/iv_cosine_0.2", "(iv) warm-up cosine, peak 0.2"),
     ("scheduler=published/i_linear", "(i) linear"),
     ("scheduler=published/i_diminishing", "(i) diminishing"),
     ("scheduler=decay_increase scheduler/batch_size=linear", "(ii) linear batch, cosine"),
     ("scheduler=decay_constant scheduler.batch_size.initial=64", "(i) cosine, batch initial 64"),
     ("scheduler=increase_increase scheduler.batch_size.interval=7",
      "(iii) exponential, batch interval 7"),
     ("scheduler=control/small_increase_1.0", "small_increase, rate final 1.0"),
     ("scheduler=decay_increase scheduler.name=mine", "mine: exponential batch, cosine rate"),
     ("scheduler=extra/seesaw scheduler.name=mine",
      "mine: seesaw, constant batch, cosine rate, batch initial 8"),
     ("scheduler=decay_increase scheduler.name=mine +scheduler.display.mine.label=best",
      "best: exponential batch, cosine rate"),
     ("scheduler/learning_rate=cosine +scheduler.learning_rate.display.label=half-wave",
      "(iv) half-wave")],
)  # fmt: skip
def test_labels_name_the_differences(overrides: str, label: str) -> None:
    (settings,) = composed_settings(*overrides.split())
    assert named(settings).label == label


def test_power_of_batch_scaling_is_always_named() -> None:
    """Linear and square-root scaling share a class, so its name alone would be ambiguous."""
    names = [
        named(settings).name
        for settings in composed_settings("scheduler/learning_rate=linear_scaling,sqrt_scaling")
    ]
    assert names == [f"warmup_increase BatchScaled learning_rate.power={p}" for p in (1.0, 0.5)]


def test_runs_recorded_without_display_settings_have_the_same_names() -> None:
    options = ",".join(option for folder in OPTIONS.values() for option in folder)
    for settings in composed_settings(f"scheduler={options}"):
        old, new = named(without_display(settings)), named(settings)
        assert (old.name, old.label, old.order) == (new.name, new.label, new.order)


def test_display_settings_do_not_change_the_run_id() -> None:
    label = "+scheduler.learning_rate.display.label=mine"
    case = "~scheduler.display.warmup_increase.case"
    assert run_id(compose_runs([])[0]) == run_id(compose_runs([label, case])[0])


def test_runs_with_equal_names_are_one_group_whatever_their_labels(tmp_path: Path) -> None:
    for seed, label in enumerate(("first", "second", None)):
        display = {"scheduler.display.mine.label": label} if label else {}
        write_run(tmp_path, NORMS, scheduler="mine", seed=seed, settings=display)
    (only,) = load_groups(tmp_path)
    assert (only.name, only.seeds, only.mixed) == ("mine", [0, 1, 2], ())


def test_name_does_not_depend_on_the_other_groups(tmp_path: Path) -> None:
    high_peak = {"scheduler.learning_rate.peak": 1.0}
    write_run(tmp_path, NORMS, scheduler="warmup_increase", settings=high_peak)
    (alone,) = load_groups(tmp_path)
    write_run(tmp_path, NORMS, scheduler="warmup_increase")
    write_run(tmp_path, NORMS)
    labels = {part.name: part.label for part in load_groups(tmp_path)}
    assert alone.name == "warmup_increase learning_rate.peak=1.0"
    assert alone.label == labels[alone.name] == "(iv) warm-up constant, peak 1.0"
    styles = group_styles(list(labels))
    assert styles[alone.name] == group_styles([alone.name])[alone.name]
    assert styles["warmup_increase"].colour == styles[alone.name].colour
    assert styles["warmup_increase"] != styles[alone.name]


def test_case_requires_the_shapes_of_the_case() -> None:
    def case(*overrides: str) -> str | None:
        (settings,) = compose_runs(overrides)
        return paper_case(settings.tree["scheduler"])

    assert case() == "iv"
    assert case("scheduler/learning_rate=warmup_cosine") == "iv"
    assert case("scheduler/learning_rate=constant") is None
    assert case("scheduler=control/small_warmup") is None
    assert case("scheduler.name=mine") is None


def test_a_new_yaml_file_is_all_that_a_new_scheduler_needs(conf_copy: Path) -> None:
    (conf_copy / "scheduler" / "mine.yaml").write_text(
        """
defaults:
  - /scheduler/decay_increase@_here_
  - _self_
  - override /scheduler/learning_rate@learning_rate: sawtooth
name: mine
display:
  mine:
    case: v
    label: growing batch, sawtooth
    colour: "#123456"
    dash: [3, 1]
batch_size:
  initial: 4
"""
    )
    (conf_copy / "scheduler" / "learning_rate" / "sawtooth.yaml").write_text(
        "_target_: elsewhere.Saw\nteeth: 3\ndisplay:\n  label: sawtooth\n"
    )
    (conf_copy / "scheduler" / "broken.yaml").write_text("defaults: [/scheduler/missing@_here_]")
    settings = {
        "scheduler._target_": "accelerando.schedule.Scheduler",
        "scheduler.name": "mine",
        "scheduler.batch_size._target_": "accelerando.schedule.ExponentialBatch",
        "scheduler.batch_size.initial": 4,
        "scheduler.batch_size.interval": 10,
        "scheduler.learning_rate._target_": "elsewhere.Saw",
        "scheduler.learning_rate.teeth": 3,
        "epochs": 100,
    }
    assert (named(settings).name, named(settings).label) == ("mine", "(v) growing batch, sawtooth")
    more_teeth = {**settings, "scheduler.learning_rate.teeth": 5}
    assert named(more_teeth).name == "mine learning_rate.teeth=5.0"
    assert named(more_teeth).label == "(v) sawtooth, teeth 5.0"
    assert sorted(display_values("case").values()) == ["i", "ii", "iii", "iv", "v"]
    (style,) = group_styles(["mine"]).values()
    assert (style.colour, style.dash) == ("#123456", (3, 1))
    other = {**settings, "scheduler.name": "decay_constant"}
    assert named(other).label == "(i) exponential batch, sawtooth, batch initial 4"


def test_classes_from_elsewhere_have_the_defaults_that_all_shapes_share() -> None:
    settings = {
        "scheduler.name": "mine",
        "scheduler.learning_rate._target_": "elsewhere.Saw",
        "scheduler.learning_rate.initial": 0.1,
        "scheduler.learning_rate.interval": 10,
        "epochs": 100,
    }
    assert named(settings).name == "mine Saw"
    assert group_colours(["mine"])["mine"] == group_colours(["mine Saw"])["mine Saw"]
