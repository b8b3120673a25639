"""The description of a run in W&B: its name, group, tags, notes and config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerando.runs.folder import State
from accelerando.scheduler_names import name_from_overrides, paper_case

OVERRIDES_KEY = "overrides"
"""Key in W&B's config of the command-line overrides that created the run."""

USER_EDITED = ("name", "tags", "notes")
"""Fields that people edit on the run's page: sent only once, so that edits are kept."""

MAX_GROUP_LENGTH = 110
"""W&B rejects names of more than 128 characters; a run's name is its group and its seed."""


def project_and_entity(state: State, tracking: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's W&B project and entity: those of its sweep, else of the tracking settings."""
    source = state.wandb if state.wandb.get("sweep") else tracking
    return {"project": source.get("project"), "entity": source.get("entity")}


def run_metadata(state: State, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``wandb.init`` that describe a run.

    ``config`` holds all settings, resolved; they are logged under the key ``hydra``, where neither
    the other keys nor those of a sweep can overwrite them.
    """
    tracking = config["tracking"]
    keys = {key: getattr(state, key) for key in ("dataset", "model", "scheduler", "seed", "epochs")}
    keys |= {"run_id": state.run, "commit": state.environment.get("commit")}
    case = paper_case(config["scheduler"])
    cases = [] if case is None else [f"case {case}"]
    tags = [state.dataset, state.model, state.scheduler, *cases, *tracking.get("tags", [])]
    group = name_from_overrides(state.scheduler, state.overrides)[:MAX_GROUP_LENGTH]
    return {
        "name": f"{group}-seed{state.seed}",
        "group": group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tags)),
        "notes": tracking.get("notes") or " ".join(["python train.py", *state.overrides]),
        "config": {**keys, OVERRIDES_KEY: list(state.overrides), "hydra": dict(config)},
    }
