"""Settings from words of a command line, outside of train.py: its words mean the same here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir

import accelerando
from accelerando.config import RunSettings, register
from accelerando.hydra_adapter import expand_sweep


def conf_folder() -> Path:
    """The folder of YAML files: in a checkout at its top, in an installed package inside it."""
    package = Path(accelerando.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def compose_runs(words: Sequence[str]) -> list[RunSettings]:
    """Settings of every run that ``python train.py -m WORDS`` would make, in its order."""
    with _hydra():
        return [RunSettings.from_hydra(compose("config", line)) for line in _expand(words)]


def expand_overrides(words: Sequence[str]) -> list[list[str]]:
    """The overrides of every run that ``python train.py -m WORDS`` would make, in its order."""
    with _hydra():
        return _expand(words)


def _expand(words: Sequence[str]) -> list[list[str]]:
    lines = expand_sweep("config", words)
    return [[word for word in line if not word.startswith("hydra.")] for line in lines]


@contextmanager
def _hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield
