"""How a run looks in W&B: by what people find it, filter it and group it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerando.tracking.folder import State

WORDS = "overrides"
"""Key of W&B's config for the words of the command line that made the run."""

EDITED = ("name", "tags", "notes")
"""What people change by hand on the run's page: sent once, so that it stays as they leave it."""

CASES = {
    "decay_constant": "case i",
    "decay_increase": "case ii",
    "increase_increase": "case iii",
    "warmup_increase": "case iv",
}
"""The paper's cases, by the scheduler's name."""


def place_of(state: State, tracking: Mapping[str, Any]) -> dict[str, Any]:
    """Project and entity: the sweep's for a run that a sweep began, else those of the settings."""
    source = state.wandb if state.wandb.get("sweep") else tracking
    return {"project": source.get("project"), "entity": source.get("entity")}


def look(state: State, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``wandb.init`` that say what the run is.

    Args:
        state: what is known of the run.
        config: all its settings, resolved; logged under a key of its own, ``hydra``, which neither
            the values beside it nor those of a sweep can overwrite.
    """
    tracking = config["tracking"]
    top = {key: getattr(state, key) for key in ("dataset", "model", "scheduler", "seed", "epochs")}
    top |= {"run_id": state.run, "commit": state.environment.get("commit")}
    case = [CASES[state.scheduler]] if state.scheduler in CASES else []
    tags = [state.dataset, state.model, state.scheduler, *case, *tracking.get("tags", [])]
    return {
        "name": f"{state.scheduler}-seed{state.seed}",
        "group": state.scheduler,
        "job_type": "train",
        "tags": list(dict.fromkeys(tags)),
        "notes": tracking.get("notes") or " ".join(["python train.py", *state.overrides]),
        "config": {**top, WORDS: list(state.overrides), "hydra": dict(config)},
    }
