"""The default settings of the schedulers in ``conf/scheduler/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from accelerando import conf_folder
from accelerando.schedule.renamed import current_target

# the loader of libyaml, if available, is ten times as fast
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Settings = Mapping[str, Any]
"""Settings by dotted name, such as ``batch_size.initial``."""

SHAPES = ("batch_size", "learning_rate")


def scheduler_files() -> list[Settings]:
    """Return the settings of every scheduler and its variants, composed but not resolved."""
    return list(_composed().values())


@cache
def defining_files() -> dict[str, Settings]:
    """Return the settings of each scheduler by its name, from the file that sets the name."""
    files = [file for path, file in _composed().items() if "name" in _read(path)]
    return {str(file["name"]): file for file in files}


@cache
def shape_files(shape: str) -> list[Settings]:
    """Return the settings in every file for ``shape``, "batch_size" or "learning_rate"."""
    folder = conf_folder() / "scheduler" / shape
    return [flatten(_read(path)) for path in sorted(folder.glob("*.yaml"))]


def default_values(scheduler: Settings) -> dict[str, Any]:
    """Return the values in the scheduler's file and, if it has other shapes, in their files.

    Values may be interpolations, such as ``${stage:${epochs}}``.
    """
    own = defining_files().get(str(scheduler.get("name")), {})
    values: dict[str, Any] = {}
    for section in ("", *SHAPES):
        target, defaults = subsection(scheduler, section).get("_target_"), subsection(own, section)
        if not defaults or defaults["_target_"] != target:
            files = shape_files(section) if section else scheduler_files()
            files = [subsection(file, "") for file in files]
            # a class from elsewhere has the defaults that all packaged classes agree on
            same_class = [file for file in files if file.get("_target_") == target]
            defaults = common_settings(same_class or files)
        values |= {f"{section}.{key}".lstrip("."): value for key, value in defaults.items()}
    return values


def subsection(settings: Settings, section: str) -> Settings:
    """Return the settings below ``section`` or, if it is empty, outside of the two shapes."""
    if section:
        prefix = f"{section}."
        return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in SHAPES}


def common_settings(files: Iterable[Settings]) -> dict[str, Any]:
    """Return the settings that have the same value in all the files that have them."""
    values: dict[str, list[Any]] = {}
    for file in files:
        for key, value in file.items():
            values.setdefault(key, []).append(value)
    return {key: each[0] for key, each in values.items() if all(v == each[0] for v in each)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level of dotted names, with current names of classes.

    >>> flatten({"scheduler": {"name": "mine", "batch_size": {"initial": 8}}})
    {'scheduler.name': 'mine', 'scheduler.batch_size.initial': 8}
    """
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result |= flatten(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = current_target(value) if key == "_target_" else value
    return result


@cache
def _composed() -> dict[Path, Settings]:
    folder, files = conf_folder() / "scheduler", {}
    for path in sorted(folder.rglob("*.yaml")):
        # a file that is broken, or needs more of Hydra than this supports, has no defaults
        if path.parent.name not in SHAPES:
            with suppress(OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
                files[path] = _compose(path, {})
    return files


@cache
def _read(path: Path) -> Mapping[str, Any]:
    return yaml.load(path.read_text(), Loader=_Loader) or {}


def _compose(path: Path, chosen: Mapping[str, str]) -> Settings:
    """Apply the defaults list of a scheduler's file as Hydra does, but in a fraction of the time.

    ``chosen`` holds the options that override those in the file, by shape.
    """
    body = flatten({key: value for key, value in _read(path).items() if key != "defaults"})
    groups: list[tuple[str, str]] = [
        (entry, "") if isinstance(entry, str) else next(iter(entry.items()))
        for entry in _read(path).get("defaults", ["_self_"])
    ]
    overriding = {_shape(group): option for group, option in groups if "override " in group}
    chosen = {**overriding, **chosen}
    settings: dict[str, Any] = {}
    for group, option in groups:
        if group == "_self_":
            settings |= body
        elif not option:  # another scheduler, such as /scheduler/decay_increase@_here_
            parent = group.partition("@")[0].removeprefix("/")
            settings |= _compose(conf_folder() / f"{parent}.yaml", chosen)
        elif "override " not in group:
            shape = _shape(group)
            file = conf_folder() / "scheduler" / shape / f"{chosen.get(shape, option)}.yaml"
            settings |= {f"{shape}.{key}": value for key, value in flatten(_read(file)).items()}
    return settings


def _shape(group: str) -> str:
    """Return the shape that an entry of a defaults list chooses.

    >>> _shape("override /scheduler/learning_rate@learning_rate"), _shape("batch_size")
    ('learning_rate', 'batch_size')
    """
    return group.rpartition("@")[2].rpartition("/")[2]
