"""Sweeps of the fake W&B server: grids whose runs are handed out to agents one by one."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from wandb_server import WandbServer


@dataclass
class Sweep:
    """A grid sweep, and the runs handed out so far."""

    name: str
    config: dict[str, Any]
    remaining: list[dict[str, Any]] = field(default_factory=list)
    """Parameters of the runs not handed out yet."""
    preempted: list[str] = field(default_factory=list)
    """Ids of runs to hand out again."""
    runs: list[str] = field(default_factory=list)
    """Ids of all runs handed out."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    """The commands that started them, in order."""
    stopped: set[str] = field(default_factory=set)
    """Ids of runs that agents must stop, as after early termination."""


def combinations(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of a grid's values."""
    values = {
        name: parameter.get("values", [parameter.get("value")])
        for name, parameter in config["parameters"].items()
    }
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def requeue(server: WandbServer, run: str) -> None:
    """Put a preempted run back into the queue of its sweep."""
    for sweep in server.sweeps.values():
        if run in sweep.runs:
            sweep.preempted.append(run)


def get_default_entity(_: WandbServer, __: dict[str, Any]) -> dict[str, Any]:
    return {"viewer": {"id": "VXNlcjox", "entity": "someone"}}


def upsert_sweep(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    name, config = f"sweep{len(server.sweeps)}", yaml.safe_load(variables["config"])
    server.sweeps[name] = Sweep(name, config, combinations(config))
    entity = {"id": "e", "name": variables.get("entityName") or "someone"}
    project = {"id": "p", "name": variables.get("projectName") or "uncategorized", "entity": entity}
    return {
        "upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}
    }


def sweep_with_runs(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[variables["sweep"]]
    content = {
        "id": sweep.name,
        "name": sweep.name,
        "state": "RUNNING",
        "runs": {"edges": []},
        "config": yaml.safe_dump(sweep.config),
    }
    return {"project": {"sweep": content}}


def create_agent(_: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"createAgent": {"agent": {"id": variables["sweep"]}}}


def heartbeat(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[variables["id"]]
    run_states = json.loads(variables.get("runState") or "{}")
    active = [run for run, is_active in run_states.items() if is_active]
    stop = [{"type": "stop", "run_id": run} for run in active if run in sweep.stopped]
    commands = stop if active else [_next_command(server, sweep)]
    return {
        "agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)},
    }


def _next_command(server: WandbServer, sweep: Sweep) -> dict[str, Any]:
    """Like W&B, hand out preempted runs first, with every key of their config as arguments."""
    if sweep.preempted:
        run = sweep.preempted.pop(0)
        values = server.runs[run].config
    elif sweep.remaining:
        run, values = f"run{len(sweep.runs)}", sweep.remaining.pop(0)
        sweep.runs.append(run)
    else:
        return {"type": "exit"}
    args = {name: {"value": value} for name, value in values.items()}
    command = {"type": "run", "run_id": run, "program": sweep.config.get("program"), "args": args}
    sweep.commands.append(command)
    return command


ANSWERS = {
    "GetDefaultEntity": get_default_entity,
    "UpsertSweep": upsert_sweep,
    "SweepWithRuns": sweep_with_runs,
    "CreateAgent": create_agent,
    "Heartbeat": heartbeat,
}
"""Implementation of the GraphQL queries of sweeps and agents, by name."""
