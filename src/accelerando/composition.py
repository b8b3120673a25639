"""Compose the settings of runs from overrides, exactly as train.py does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir

import accelerando
from accelerando.config import RunSettings, register
from accelerando.hydra_adapter import expand_sweep


def conf_folder() -> Path:
    """Return the folder of YAML files: conf/ of the checkout, or inside an installed package."""
    package = Path(accelerando.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def compose_runs(overrides: Sequence[str]) -> list[RunSettings]:
    """Return the settings of every run of ``python train.py -m OVERRIDES``, in order."""
    with _hydra():
        return [RunSettings.from_hydra(compose("config", run)) for run in _expand(overrides)]


def expand_overrides(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every run of ``python train.py -m OVERRIDES``, in order."""
    with _hydra():
        return _expand(overrides)


def _expand(overrides: Sequence[str]) -> list[list[str]]:
    runs = expand_sweep("config", overrides)
    return [[override for override in run if not override.startswith("hydra.")] for run in runs]


@contextmanager
def _hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield
