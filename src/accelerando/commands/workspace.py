"""Create a W&B workspace that compares schedulers: four panels with means and ranges over seeds."""

from __future__ import annotations

import argparse
import json
from typing import Any

from accelerando.checks import UsageError
from accelerando.wandb_mirror.wandb_adapter import workspace_content

PANELS = {
    "Full gradient norm": (["full_gradient_norm"], True),
    "Empirical loss": (["empirical_loss"], True),
    "Test accuracy": (["test_accuracy"], False),
    "Batch size and learning rate": (["batch_size", "learning_rate"], True),
}
"""Title of each panel: its metrics, and whether their axis is logarithmic."""

PINNED_COLUMNS = [
    "run:displayName", "summary:minimum_full_gradient_norm", "summary:best_test_accuracy",
    "config:dataset", "config:model", "config:seed",
]  # fmt: skip
"""Pinned columns of the runs table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add = parser.add_argument
    add("project", metavar="ENTITY/PROJECT", help="W&B project of the runs")
    add(
        "--x",
        default="epoch",
        choices=("epoch", "step", "examples"),
        help="x-axis of the panels (default: epoch)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="print the workspace as JSON instead of saving it; needs no login",
    )


def run_command(options: argparse.Namespace) -> None:
    """Save the workspace, and print its URL."""
    entity, slash, project = options.project.partition("/")
    if not (entity and slash and project) or "/" in project:
        raise UsageError(f"expected ENTITY/PROJECT, such as me/accelerando, got {options.project}")
    workspace = build_workspace(entity, project, options.x)
    if options.dry_run:
        print(json.dumps(workspace_content(workspace), indent=1))
        return
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UsageError("not logged in to W&B: run `wandb login` first, or preview with --dry-run")
    try:
        workspace.save()
    except Exception as error:  # of many types, some private
        raise UsageError(
            f"W&B rejected {options.project}: {' '.join(str(error).split())}"
        ) from error
    print(f"workspace  {workspace.url}")


def build_workspace(entity: str, project: str, axis: str) -> Any:
    """Return the workspace, not saved yet.

    No panel has an x-axis of its own, so that the setting of the workspace switches all of them.

    Raises:
        UsageError: wandb_workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces.expr import Metric
    except ImportError as error:
        raise UsageError(
            f"workspaces need another package ({error}): pip install 'accelerando[workspace]'"
        ) from error
    panels = [
        reports.LinePlot(
            title=title,
            x=None,
            y=metrics,
            log_y=log_scale,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=100,
        )
        for title, (metrics, log_scale) in PANELS.items()
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="Schedulers of batch size and learning rate",
        sections=[
            workspaces.Section(
                name="Schedulers",
                panels=panels,
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(columns=2, rows=2),
                panel_settings=workspaces.SectionPanelSettings(x_axis=axis),
            )
        ],
        settings=workspaces.WorkspaceSettings(x_axis=axis, max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            groupby=[Metric("Group")], pinned_columns=PINNED_COLUMNS
        ),
    )
