"""The W&B workspace, and what is sent on request: as far as it can be seen without W&B."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import offline
from accelerando.commands import main
from accelerando.commands.workspace import PANELS
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from accelerando.wandb_mirror import client
from helpers import SHORT, compose_settings


@pytest.mark.filterwarnings("ignore::UserWarning")  # of wandb_workspaces, on pydantic
def test_the_workspace_is_four_panels_over_schedulers(capsys: pytest.CaptureFixture[str]) -> None:
    main(["workspace", "me/theirs", "--x", "examples", "--dry-run"])
    made = json.loads(capsys.readouterr().out)
    assert (made["entity"], made["project"]) == ("me", "theirs")
    section = made["spec"]["section"]
    (panels,) = section["panelBankConfig"]["sections"]
    shown = [panel["config"] for panel in panels["panels"]]
    assert [panel["chartTitle"] for panel in shown] == list(PANELS)
    assert {(panel["groupAgg"], panel["groupArea"]) for panel in shown} == {("mean", "minmax")}
    # no panel has an axis of its own: the workspace's one setting switches all
    assert {panel["xAxis"] for panel in shown} == {None}
    assert panels["localPanelSettings"]["xAxis"] == "examples"
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert section["settings"]["xAxis"] == "examples"


def test_a_workspace_needs_a_place_and_a_login(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("theirs", "me/", "/theirs", "a/b/c"):
        with pytest.raises(SystemExit):
            main(["workspace", place])
        assert capsys.readouterr().err.startswith("error: expected ENTITY/PROJECT, such as ")
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(SystemExit):
        main(["workspace", "me/theirs"])
    assert "run `wandb login` first" in capsys.readouterr().err


@pytest.mark.usefixtures("wandb_server")
def test_a_workspace_that_is_refused_is_told_in_one_line() -> None:
    # a process of its own: what the client knows of a login stays in one
    command = [sys.executable, "-m", "accelerando.commands", "workspace", "me/theirs"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]  # which the test double does not answer
    assert last.startswith("error: W&B rejected me/theirs: "), result.stderr


ASKED = {
    "none": "tracking.artifacts=false",
    "finished": "tracking.artifacts=true",
    "diverged": "tracking.artifacts=true scheduler.learning_rate.initial=1e30",
}


def sent_artifacts(root: str, path: Path) -> None:
    """In a process of its own, as a run is: what W&B is sent, without and with artifacts."""
    sent = {}
    for seed, (name, words) in enumerate(ASKED.items()):
        more = (*SHORT, "tracking=offline", f"seed={seed}", *words.split())
        config = compose_settings(f"root={root}", *more)
        state = run(config, [], Console(stderr=True))
        assert state is not None
        (file,) = RunFolder(run_folder(config)).path.glob("wandb/offline-run-*/*.wandb")
        assert [r.exit.exit_code for r in offline.records(file) if r.HasField("exit")] == [0]
        assert "rows" in state.wandb  # W&B has them all
        sent[name] = {
            artifact.name.removesuffix(f"-{state.wandb['id']}"): sorted(
                entry.path for entry in artifact.manifest.contents
            )
            for artifact in offline.artifacts(file)
        }
    path.write_text(json.dumps(sent))


def test_record_and_checkpoint_are_sent_on_request(tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    process = multiprocessing.get_context("spawn").Process(
        target=sent_artifacts, args=(f"{tmp_path}/runs", path)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    record = ["config.yaml", "record.jsonl", "steps.jsonl"]
    assert json.loads(path.read_text()) == {
        "none": {},
        "finished": {"record": record, "checkpoint": ["checkpoint.pt"]},
        "diverged": {"record": record},  # before its first checkpoint
    }


def test_what_wandb_mode_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, meant in (("dryrun", "offline"), ("run", "online"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", said)
        assert client.resolve_mode("auto") == meant
