"""Select the runs to compare, and check that they are comparable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import yaml

from accelerando.checks import UsageError
from accelerando.compare.load import Run, differing_settings, nested
from accelerando.runs.folder import Status
from accelerando.scheduler_names import is_display

SHARED_SETTINGS = {
    "yardstick": ("measure",),
    "data": ("dataset",),
    "model": ("model",),
    "budget": ("epochs",),
    "optimizer": ("optimizer",),
    "arithmetic": (
        "precision", "hardware.micro_batch", "hardware.processes", "hardware.sync_batch_norm"
    ),
}  # fmt: skip
"""What runs must share to be comparable, with its settings and sections of settings."""
_NOT_COMPARED = (
    "dataset.folder",
    "dataset.epochs",
    "dataset._target_",
    "model._target_",
    # measured in addition to the norm, which does not depend on them
    "measure.per_layer",
    "measure.variance",
    "measure.published",
    "measure.augmented",
    "measure.sharpness_epochs",
    "measure.check",
)


class ExcludedRun(NamedTuple):
    """A run that is not compared, and the reason."""

    run: Run
    reason: str


def select_runs(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """Return the runs that meet all conditions: ``NAME=VALUE`` or ``NAME=VALUE,VALUE``.

    Raises:
        UsageError: no run has a setting of that name.
    """
    for condition in conditions:
        name, equals, text = condition.partition("=")
        if not equals:
            raise UsageError(f"--where {condition}: use NAME=VALUE, such as epochs=100")
        check_setting_exists(runs, name, f"--where {condition}")
        # the commas of a list do not separate values
        values = [text] if text.startswith("[") else text.split(",")
        with_setting = [run for run in runs if name in run.config]
        runs = [
            run for run in with_setting if any(_equal(run.config[name], text) for text in values)
        ]
    return list(runs)


def check_setting_exists(runs: Sequence[Run], name: str, option: str) -> None:
    """Raise UsageError that names ``option`` if no run has a setting or section ``name``."""
    known = sorted({key for run in runs for key in run.config if not is_display(key)})
    if any(nested(key, [name]) for key in known):
        return
    similar = ", ".join(difflib.get_close_matches(name, known, n=3))
    advice = f"did you mean {similar}?" if similar else f"choose one of {', '.join(known)}"
    raise UsageError(f"{option}: no run has a setting {name}; {advice}")


def _equal(setting: Any, text: str) -> bool:
    if isinstance(setting, (int, float)) and not isinstance(setting, bool):
        with suppress(ValueError):  # YAML parses 1e-1 as a string
            return float(text) == setting
    try:
        return bool(yaml.safe_load(text) == setting)
    except (yaml.YAMLError, ValueError):  # such as @x, or an invalid date
        return bool(text == setting)


def completed_runs(runs: Sequence[Run]) -> tuple[list[Run], list[ExcludedRun]]:
    """Split runs into those that ended and measured the exact norm, and the others.

    Diverged runs count as ended: leaving them out would make their group look better. Of several
    copies of a run, one is kept.
    """
    kept: dict[str, Run] = {}
    excluded = []
    for run in runs:
        if run.status not in (Status.FINISHED, Status.DIVERGED):
            progress = f"{run.state.epoch} of {run.state.epochs} epochs"
            excluded.append(ExcludedRun(run, f"{run.status} ({run.state.message or progress})"))
        elif run.state.run in kept:
            excluded.append(ExcludedRun(run, f"a copy of {kept[run.state.run].path}"))
        elif run.status == Status.DIVERGED:  # even if it measured no finite norm
            kept[run.state.run] = run
        elif "full_gradient_norm" not in run.record:
            excluded.append(ExcludedRun(run, "measured no exact norm (subset or bfloat16)"))
        elif np.isnan(run.record["full_gradient_norm"]).all():
            excluded.append(ExcludedRun(run, "no finite norm measured"))
        else:
            kept[run.state.run] = run
    return list(kept.values()), excluded


def check_comparable(
    runs: Sequence[Run], *, by: Sequence[str] = (), mix: Iterable[str] = ()
) -> None:
    """Raise UsageError if runs differ in settings that they must share.

    Args:
        runs: the runs to compare.
        by: settings to group by; what contains one of them may differ.
        mix: keys of ``SHARED_SETTINGS`` that may differ.
    """
    differences = {
        kind: settings
        for kind, sections in SHARED_SETTINGS.items()
        if kind not in mix and not any(nested(key, sections) for key in by)
        and (settings := _relevant_differences(runs, sections))
    }  # fmt: skip
    if differences:
        raise UsageError(_describe_differences(runs, differences))


def differing_result_settings(runs: Sequence[Run]) -> list[str]:
    """Return the settings that change results and differ between runs, except the seed."""
    return list(_relevant_differences(runs, ["scheduler", *chain(*SHARED_SETTINGS.values())]))


def _relevant_differences(runs: Sequence[Run], sections: Sequence[str]) -> dict[str, list[Any]]:
    # micro-batches and processes change what BatchNorm normalises over, and nothing else
    batch_norm = any(run.config.get("model.norm") == "batch" for run in runs)
    return {
        name: values
        for name, values in differing_settings(runs, sections).items()
        if name not in _NOT_COMPARED and (batch_norm or not nested(name, ["hardware"]))
    }


def _describe_differences(runs: Sequence[Run], differences: dict[str, dict[str, list[Any]]]) -> str:
    described = []
    for kind, settings in differences.items():
        texts = [
            f"{name} is {' or '.join([*map(str, values[:4]), *['...'] * (len(values) > 4)])}"
            for name, values in settings.items()
        ]
        described.append(f"{kind}: {', '.join(texts)}")
    folders = ", ".join(sorted({str(run.path.parents[1]) for run in runs}))
    values = dict(chain(*(settings.items() for settings in differences.values())))
    example = min(values, key=lambda name: not name.endswith(".name"))
    return (
        f"these runs differ in more than scheduler and seed ({'; '.join(described)}): "
        f"pass one of the folders {folders}, select runs with --where, for example --where "
        f"{example}={values[example][0]}, group them with --by {example}, or allow it with "
        f"--mix {','.join(differences)}"
    )
