"""Make the W&B workspace that compares schedulers: four panels, means and ranges over seeds."""

from __future__ import annotations

import argparse
import json

from accelerando.checks import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where the runs are in W&B")
    parser.add_argument("--x", default="epoch", choices=("epoch", "step", "examples"))
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be saved; needs no login"
    )


def act(options: argparse.Namespace) -> None:
    """Save it, and print where it is."""
    from accelerando.wandb_mirror.workspace import build_workspace

    entity, slash, project = options.project.partition("/")
    if not (entity and slash and project) or "/" in project:
        raise UsageError(f"give ENTITY/PROJECT, such as me/accelerando, got {options.project}")
    made = build_workspace(entity, project, options.x)
    if options.dry_run:
        print(json.dumps(made._to_model().model_dump(mode="json", by_alias=True), indent=1))
        return
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UsageError("no login to W&B: log in with `wandb login`, or look with --dry-run")
    try:
        made.save()
    except Exception as error:  # of many kinds, private ones among them
        raise UsageError(
            f"W&B refuses {options.project}: {' '.join(str(error).split())}"
        ) from error
    print(f"workspace  {made.url}")
