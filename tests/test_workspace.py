"""``accelerando workspace``: the panels it creates, and its error messages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from accelerando.commands import main
from accelerando.commands.workspace import PANELS


@pytest.mark.filterwarnings("ignore::UserWarning")  # wandb_workspaces triggers one in pydantic
def test_workspace_has_four_panels_grouped_by_scheduler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["workspace", "me/theirs", "--x", "examples", "--dry-run"])
    workspace = json.loads(capsys.readouterr().out)
    assert (workspace["entity"], workspace["project"]) == ("me", "theirs")
    section = workspace["spec"]["section"]
    (bank,) = section["panelBankConfig"]["sections"]
    panels = [panel["config"] for panel in bank["panels"]]
    assert [panel["chartTitle"] for panel in panels] == list(PANELS)
    assert {(panel["groupAgg"], panel["groupArea"]) for panel in panels} == {("mean", "minmax")}
    # no panel has an axis of its own: the setting of the workspace switches all of them
    assert {panel["xAxis"] for panel in panels} == {None}
    assert bank["localPanelSettings"]["xAxis"] == "examples"
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert section["settings"]["xAxis"] == "examples"


@pytest.mark.parametrize("project", ["theirs", "me/", "/theirs", "a/b/c"])
def test_project_must_name_an_entity(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["workspace", project])
    assert capsys.readouterr().err.startswith("error: expected ENTITY/PROJECT, such as ")


def test_saving_requires_a_login(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(SystemExit):
        main(["workspace", "me/theirs"])
    assert "run `wandb login` first" in capsys.readouterr().err


@pytest.mark.usefixtures("wandb_server")
def test_rejection_by_the_server_is_reported_in_one_line() -> None:
    # a new process, since the client keeps the login in global state
    command = [sys.executable, "-m", "accelerando.commands", "workspace", "me/theirs"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]  # the test server knows no workspaces
    assert last.startswith("error: W&B rejected me/theirs: "), result.stderr
