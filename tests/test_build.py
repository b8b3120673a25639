"""Every choice in conf/ composes and builds; what cannot be built is explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from accelerando.budget import register
from accelerando.build import build, build_plan, build_source, settings_from_hydra
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from helpers import ROOT

Settings = Callable[..., RunSettings]


def options(group: str) -> list[str]:
    folder = ROOT / "conf" / group
    names = [path.relative_to(folder).with_suffix("") for path in folder.glob("*.yaml")]
    if group == "scheduler":
        for more in ("extra", "control", "tuned"):
            names += [Path(more) / path.stem for path in (folder / more).glob("*.yaml")]
    return sorted(map(str, names))


CHOICES = [
    f"{group}={option}"
    for group in ("model", "dataset", "scheduler", "optimizer", "hardware", "tracking")
    for option in options(group)
] + [
    f"scheduler/{group}={option}"
    for group in ("batch_size", "learning_rate")
    for option in options(f"scheduler/{group}")
]


@pytest.mark.parametrize("override", ["measure.published=true", "steps=1200"])
def test_conversion_leaves_the_composed_configuration_unchanged(override: str) -> None:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [override])
    before = OmegaConf.to_yaml(config)
    settings_from_hydra(config)
    assert OmegaConf.to_yaml(config) == before


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(choice: str, settings: Settings) -> None:
    more = []
    if choice.endswith("=list"):
        group = choice.removesuffix("=list").replace("/", ".")
        more = [f"{group}.values=[[0,8],[3,16]]"]
    config = settings(choice, *more)
    assert "???" not in str(config.tree)
    assert build_plan(config).epochs == config.epochs
    assert build_source(config).examples == config.dataset.examples
    model = build("model", config.model.target, shape=list(config.dataset.shape), classes=10)
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("scheduler", options("scheduler"))
@pytest.mark.parametrize("epochs", [1, 2])
def test_runs_of_one_or_two_epochs_have_a_plan(
    scheduler: str, epochs: int, settings: Settings
) -> None:
    assert build_plan(settings(f"scheduler={scheduler}", f"epochs={epochs}")).epochs == epochs


def test_every_hardware_has_a_launcher() -> None:
    assert options("hydra/launcher") == options("hardware")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"widths": [8]}, "model has no _target_"),
        ({"_target_": "accelerando.models.Mlp", "widths": [0]}, "model: widths must be at least 1"),
        ({"_target_": "accelerando.models.Mlp", "depth": 2}, "model: .*unexpected keyword"),
        ({"_target_": "accelerando.models.Nothing"}, "model: .*Nothing"),
    ],
)
def test_error_names_the_setting(target: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build("model", target, shape=[1, 8, 8], classes=10)


def test_value_in_place_of_a_shape_is_rejected(settings: Settings) -> None:
    with pytest.raises(UsageError, match="choose one with scheduler/learning_rate=NAME"):
        build_plan(settings("scheduler.learning_rate=cosine"))
