"""Which runs are compared: those asked for, those that ended well, those that are comparable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import yaml

from accelerando.checks import UsageError
from accelerando.compare.load import Run, differing_settings, nested
from accelerando.runs.folder import Status

KINDS = {
    "yardstick": ("measure",),
    "data": ("dataset",),
    "model": ("model",),
    "budget": ("epochs",),
    "optimizer": ("optimizer",),
    "arithmetic": (
        "precision", "hardware.micro_batch", "hardware.processes", "hardware.sync_batch_norm"
    ),
}  # fmt: skip
"""What runs must share to be compared, and the settings that it is made of."""
NOT_COMPARED = (
    "dataset.folder",
    "dataset.epochs",
    "dataset._target_",
    "model._target_",
    # measured besides the norm, which is the same with them and without
    "measure.per_layer",
    "measure.variance",
    "measure.published",
    "measure.sharpness_epochs",
    "measure.check",
)


class LeftOut(NamedTuple):
    """A run that is not compared, and why."""

    run: Run
    reason: str


def select_runs(runs: Sequence[Run], wanted: Sequence[str]) -> list[Run]:
    """The runs whose settings are as ``wanted`` says, each word NAME=VALUE or NAME=VALUE,VALUE.

    Raises:
        UsageError: no run has a setting of that name.
    """
    for text in wanted:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--where {text}: give NAME=VALUE, such as epochs=100")
        known_setting(runs, name, f"--where {text}")
        # a list is one value, though it has commas
        values = [value] if value.startswith("[") else value.split(",")
        runs = [
            run
            for run in runs
            if name in run.config and any(_equal(run.config[name], value) for value in values)
        ]
    return list(runs)


def known_setting(runs: Sequence[Run], name: str, given: str) -> None:
    """Raise UsageError where no run has the setting, or the section of settings, ``name``."""
    known = sorted({key for run in runs for key in run.config})
    if any(nested(key, [name]) for key in known):
        return
    near = difflib.get_close_matches(name, known, n=3) or known
    raise UsageError(f"{given}: no run has a setting {name}; there are {', '.join(near)}")


def _equal(setting: Any, text: str) -> bool:
    if isinstance(setting, (int, float)) and not isinstance(setting, bool):
        with suppress(ValueError):  # YAML takes 1e-1 for a word
            return float(text) == setting
    try:
        return bool(yaml.safe_load(text) == setting)
    except (yaml.YAMLError, ValueError):  # such as @x, or a date that is none
        return bool(text == setting)


def completed_runs(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Finished runs that measured the exact norm, and the others with the reason.

    Copies of one run, in several folders, count once.
    """
    kept: dict[str, Run] = {}
    out = []
    for run in runs:
        if run.status != Status.FINISHED:
            where = f"{run.state.epoch} of {run.state.epochs} epochs"
            out.append(LeftOut(run, f"{run.status} ({run.state.message or where})"))
        elif "full_gradient_norm" not in run.record:
            out.append(LeftOut(run, "measured no exact norm (subset or bfloat16)"))
        elif np.isnan(run.record["full_gradient_norm"]).all():
            out.append(LeftOut(run, "no finite norm measured"))
        elif run.state.run in kept:
            out.append(LeftOut(run, f"a copy of {kept[run.state.run].path}"))
        else:
            kept[run.state.run] = run
    return list(kept.values()), out


def comparable(runs: Sequence[Run], *, by: Sequence[str] = (), mix: Iterable[str] = ()) -> None:
    """Raise UsageError where runs differ in what they must share.

    Args:
        runs: those to be compared.
        by: settings that runs are grouped by: what a group is about may differ between groups.
        mix: kinds, of ``KINDS``, that may differ.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for kind, prefixes in KINDS.items():
        names = {name: values for name, values in differing_settings(runs, prefixes).items() if _counts(
            name, runs)}  # fmt: skip
        about = any(nested(key, prefixes) for key in by)
        if names and kind not in mix and not about:
            found[kind] = names
    if found:
        raise UsageError(_refusal(runs, found))


def _counts(name: str, runs: Sequence[Run]) -> bool:
    # how a batch is split changes results where BatchNorm sees the parts
    if nested(name, ["hardware"]):
        return any(run.config.get("model.norm") == "batch" for run in runs)
    return name not in NOT_COMPARED


def affects_results(runs: Sequence[Run]) -> list[str]:
    """Settings that differ between runs and change results, but for the seed."""
    prefixes = ["scheduler", *(prefix for kind in KINDS.values() for prefix in kind)]
    return [name for name in differing_settings(runs, prefixes) if _counts(name, runs)]


def _refusal(runs: Sequence[Run], found: dict[str, dict[str, list[Any]]]) -> str:
    words = "; ".join(
        f"{kind}: " + ", ".join(f"{name} is {_either(values)}" for name, values in names.items())
        for kind, names in found.items()
    )
    folders = ", ".join(sorted({str(run.path.parents[1]) for run in runs}))
    # what a reader would choose by: a name where there is one
    every = {name: values for names in found.values() for name, values in names.items()}
    name = min(every, key=lambda key: not key.endswith(".name"))
    return (
        f"these runs differ in more than scheduler and seed ({words}): give one of the folders "
        f"{folders}, choose with --where, for example --where {name}={every[name][0]}, group them "
        f"with --by {name}, or compare them all the same with --mix {','.join(found)}"
    )


def _either(values: Sequence[Any]) -> str:
    shown = [str(value) for value in values[:4]] + ["..."] * (len(values) > 4)
    return " or ".join(shown)
