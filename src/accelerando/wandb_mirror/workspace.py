"""The W&B workspace that the paper's figures suggest: curves of schedulers, means over seeds."""

from __future__ import annotations

from typing import Any

from accelerando.checks import UsageError

PANELS = {
    "Full gradient norm": (["full_gradient_norm"], True),
    "Empirical loss": (["empirical_loss"], True),
    "Test accuracy": (["test_accuracy"], False),
    "Batch size and learning rate": (["batch_size", "learning_rate"], True),
}
"""What each shows, and whether on a logarithmic scale."""

COLUMNS = (
    "summary:minimum_full_gradient_norm",
    "summary:best_test_accuracy",
    "config:dataset",
    "config:model",
    "config:seed",
)
"""Of the table of runs, besides the name."""


def build_workspace(entity: str, project: str, axis: str) -> Any:
    """The workspace, not saved yet.

    Args:
        entity: user or team.
        project: where the runs are.
        axis: epoch, step or examples; no panel has an axis of its own, so that the workspace's one
            setting switches all of them.

    Raises:
        UsageError: the package that makes workspaces is missing.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces.expr import Metric
    except ImportError as error:
        raise UsageError(
            f"workspaces need a package more ({error}): pip install 'accelerando[workspace]'"
        ) from error
    lines = [
        panels.LinePlot(
            title=title,
            x=None,
            y=metrics,
            log_y=logarithmic,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=100,
        )
        for title, (metrics, logarithmic) in PANELS.items()
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="Schedulers of batch size and learning rate",
        sections=[
            workspaces.Section(
                name="Schedulers",
                panels=lines,
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(columns=2, rows=2),
                panel_settings=workspaces.SectionPanelSettings(x_axis=axis),
            )
        ],
        settings=workspaces.WorkspaceSettings(x_axis=axis, max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            groupby=[Metric("Group")], pinned_columns=["run:displayName", *COLUMNS]
        ),
    )
