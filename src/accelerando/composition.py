"""Compose the settings of runs from overrides, exactly as train.py does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir

from accelerando import conf_folder
from accelerando.budget import register
from accelerando.build import settings_from_hydra
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.hydra_adapter import expand_sweep


def compose_runs(overrides: Sequence[str]) -> list[RunSettings]:
    """Return the settings of every run of ``python train.py -m OVERRIDES``, in order."""
    with _hydra():
        return [settings_from_hydra(compose("config", run)) for run in _expand(overrides)]


def expand_overrides(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every run of ``python train.py -m OVERRIDES``, in order."""
    with _hydra():
        return _expand(overrides)


def _expand(overrides: Sequence[str]) -> list[list[str]]:
    runs = expand_sweep("config", overrides)
    if not runs:
        raise UsageError(
            "the overrides expand to no runs: a glob(...) matches no choice, or a list is empty"
        )
    return [[override for override in run if not override.startswith("hydra.")] for run in runs]


@contextmanager
def _hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield
