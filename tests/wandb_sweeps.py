"""The sweeps of the test double: grids, dealt to agents run by run."""

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
    """A grid; its runs in the order in which they are dealt."""

    name: str
    config: dict[str, Any]
    left: list[dict[str, Any]] = field(default_factory=list)
    handed_back: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    dealt: list[dict[str, Any]] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    """Runs that their agent is told to stop, as by early termination or on their pages."""


def combinations(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of a grid's values."""
    lists = {
        name: about.get("values", [about.get("value")])
        for name, about in config["parameters"].items()
    }
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def hand_back(server: WandbServer, run: str) -> None:
    """A preempted run goes back into its sweep's queue."""
    for sweep in server.sweeps.values():
        if run in sweep.runs:
            sweep.handed_back.append(run)


def get_default_entity(_: WandbServer, __: dict[str, Any]) -> dict[str, Any]:
    return {"viewer": {"id": "VXNlcjox", "entity": "someone"}}


def upsert_sweep(server: WandbServer, given: dict[str, Any]) -> dict[str, Any]:
    name, config = f"sweep{len(server.sweeps)}", yaml.safe_load(given["config"])
    server.sweeps[name] = Sweep(name, config, combinations(config))
    entity = {"id": "e", "name": given.get("entityName") or "someone"}
    project = {"id": "p", "name": given.get("projectName") or "uncategorized", "entity": entity}
    return {
        "upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}
    }


def sweep_with_runs(server: WandbServer, given: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[given["sweep"]]
    found = {"id": sweep.name, "name": sweep.name, "state": "RUNNING", "runs": {"edges": []}}
    return {"project": {"sweep": {**found, "config": yaml.safe_dump(sweep.config)}}}


def create_agent(_: WandbServer, given: dict[str, Any]) -> dict[str, Any]:
    return {"createAgent": {"agent": {"id": given["sweep"]}}}


def heartbeat(server: WandbServer, given: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[given["id"]]
    busy = [run for run, runs in json.loads(given.get("runState") or "{}").items() if runs]
    stop = [{"type": "stop", "run_id": run} for run in busy if run in sweep.stopped]
    commands = stop if busy else [_next(server, sweep)]
    return {
        "agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(commands)},
    }


def _next(server: WandbServer, sweep: Sweep) -> dict[str, Any]:
    """Preempted runs first, with every key of their config, W&B's own too, as W&B does."""
    if sweep.handed_back:
        run = sweep.handed_back.pop(0)
        values = server.runs[run].config
    elif sweep.left:
        run, values = f"run{len(sweep.runs)}", sweep.left.pop(0)
        sweep.runs.append(run)
    else:
        return {"type": "exit"}
    args = {name: {"value": value} for name, value in values.items()}
    command = {"type": "run", "run_id": run, "program": sweep.config.get("program"), "args": args}
    sweep.dealt.append(command)
    return command


ANSWERS = {
    "GetDefaultEntity": get_default_entity,
    "UpsertSweep": upsert_sweep,
    "SweepWithRuns": sweep_with_runs,
    "CreateAgent": create_agent,
    "Heartbeat": heartbeat,
}
"""Of an agent's and a sweep's questions, by their names."""
