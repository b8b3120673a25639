"""What describes a run in W&B: its name, group, tags, notes and config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerando.runs.folder import State
from accelerando.schedule.cases import CASES

OVERRIDES_KEY = "overrides"
"""Key in W&B's config of the command-line overrides that created the run."""

USER_EDITED = ("name", "tags", "notes")
"""What people edit on the run's page: sent once only, so that their edits last."""

MAX_GROUP_LENGTH = 110
"""W&B rejects names of more than 128 characters; a run's name is its group and its seed."""


def project_and_entity(state: State, tracking: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's W&B project and entity: those of its sweep, else of the tracking settings."""
    source = state.wandb if state.wandb.get("sweep") else tracking
    return {"project": source.get("project"), "entity": source.get("entity")}


def run_metadata(state: State, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``wandb.init`` that describe a run.

    Args:
        state: what is known of the run.
        config: all its settings, resolved; logged under the key ``hydra``, where neither the other
            keys nor those of a sweep can overwrite them.
    """
    tracking = config["tracking"]
    keys = {key: getattr(state, key) for key in ("dataset", "model", "scheduler", "seed", "epochs")}
    keys |= {"run_id": state.run, "commit": state.environment.get("commit")}
    case = _case(state.scheduler, config["scheduler"])
    tags = [state.dataset, state.model, state.scheduler, *case, *tracking.get("tags", [])]
    group = " ".join([state.scheduler, *_told(state)])[:MAX_GROUP_LENGTH]
    return {
        "name": f"{group}-seed{state.seed}",
        "group": group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tags)),
        "notes": tracking.get("notes") or " ".join(["python train.py", *state.overrides]),
        "config": {**keys, OVERRIDES_KEY: list(state.overrides), "hydra": dict(config)},
    }


def _case(name: str, scheduler: Mapping[str, Any]) -> list[str]:
    """The paper's case, where the scheduler of its name has shapes that the paper has in it."""
    batch_size, learning_rate = (
        str(scheduler[shape]["_target_"]).rpartition(".")[2]
        for shape in ("batch_size", "learning_rate")
    )
    case = CASES.get(name)
    if case is None or batch_size != case.batch_size or learning_rate not in case.learning_rates:
        return []
    return [f"case {case.number}"]


def _told(state: State) -> list[str]:
    """What the run's words say of its scheduler besides the name: a variant, shapes and values."""
    told: dict[str, str] = {}
    for word in state.overrides:
        name, _, value = word.lstrip("+").partition("=")
        if name == "scheduler":
            told[""] = value.rpartition("/")[2]
        elif name.startswith(("scheduler/", "scheduler.")):
            short = name[len("scheduler.") :].replace("batch_size", "batch")
            told[short.replace("learning_rate", "rate")] = _short(value)
    variant = told.pop("", state.scheduler)
    words = [f"{name}={value}" for name, value in sorted(told.items())]
    return words if variant == state.scheduler else [variant, *words]


def _short(value: str) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return value
