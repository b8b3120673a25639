"""``accelerando compare`` on runs that the product made: what it prints, draws, and refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.compare.load import load_runs
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder, Status
from made_runs import Make, norms_of, printed, write


def test_json_agrees_with_the_records(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real runs, their files read anew here, everything worked out again."""
    runs = make(*(f"scheduler={name} seed={seed}" for name in ("decay_constant", "warmup_increase")
                  for seed in (0, 1)))  # fmt: skip
    found = json.loads(printed(capsys, f"{tmp_path}/runs", "--json", "--thresholds", "0.3"))
    lowest = {
        name: [min(norms_of(run)) for run in runs if run.state.scheduler == name]
        for name in ("decay_constant", "warmup_increase")
    }
    on = found["axes"]["epochs"]
    for name, values in lowest.items():
        assert on["groups"][name]["norm"]["mean"] == pytest.approx(sum(values) / 2)
        assert on["groups"][name]["norm"]["lowest"] == min(values)
    assert on["order"] == sorted(lowest, key=lambda name: sum(lowest[name]))
    duel = on["groups"]["warmup_increase"]["against_reference"]
    pairs = list(zip(lowest["warmup_increase"], lowest["decay_constant"], strict=True))
    assert duel["ratio"] == pytest.approx(math.sqrt(math.prod(a / b for a, b in pairs)))
    assert duel["difference"] == pytest.approx(sum(a - b for a, b in pairs) / 2)
    # at equal steps the one with the larger batches has got farther: its steps are the budget
    constant = [run for run in runs if run.state.scheduler == "decay_constant"]
    assert found["axes"]["steps"]["budget"] == constant[0].state.steps
    reach = on["groups"]["warmup_increase"]["reach"][0]
    first = [
        next((k for k, norm in enumerate(norms_of(run)) if norm <= 0.3), math.inf)
        for run in runs
        if run.state.scheduler == "warmup_increase"
    ]
    assert reach["reached"] == sum(map(math.isfinite, first))
    assert not (tmp_path / "runs" / "report.html").exists()


def test_csv_has_a_row_for_each_group_and_axis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [1.0, 0.2])
    write(tmp_path, [1.0, 0.1], scheduler="warmup_increase")
    rows = list(csv.DictReader(io.StringIO(printed(capsys, str(tmp_path), "--csv"))))
    assert [(row["group"], row["axis"]) for row in rows[:3]] == [
        ("decay_constant", "epochs"), ("warmup_increase", "epochs"), ("decay_constant", "steps"),
    ]  # fmt: skip
    assert len(rows) == 8
    assert float(rows[1]["norm_mean"]) == 0.1
    assert float(rows[1]["ratio_to_reference"]) == pytest.approx(0.5)
    assert rows[1]["norm_low"] == "" == rows[0]["ratio_to_reference"]
    assert (rows[0]["reached_0.1"], rows[0]["cost_0.1"]) == ("0", "")
    assert rows[1]["speed_up_0.1_bound"] == "at least"


def test_the_command_prints_tables_and_writes_everything(make: Make, tmp_path: Path) -> None:
    make("scheduler=decay_constant epochs=10", "scheduler=increase_increase epochs=10")
    (tmp_path / "runs" / "digits-mlp" / "x").mkdir()
    command = [sys.executable, "-m", "accelerando.commands", "compare", f"{tmp_path}/runs"]
    for x in ("epochs", "steps", "examples", "seconds"):
        more = ["--x", x, "--output", f"{tmp_path}/out/{x}", "--formats", "png,svg,pdf"]
        result = subprocess.run([*command, *more], capture_output=True, text=True,
                                env={**os.environ, "COLUMNS": "140"})  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "(iii) increasing batch, increasing rate" in result.stdout
        assert f"At equal {x}" in result.stdout
        for name in ("comparison", "differences", "speed_up"):
            assert f"{name}.{{png,svg,pdf}}" in result.stdout
            picture = tmp_path / "out" / x / name
            assert picture.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
            assert "<svg" in picture.with_suffix(".svg").read_text()
            assert picture.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / x / "report.html").exists()
    assert not (tmp_path / "runs" / "report.html").exists()


def test_unfinished_and_diverged_runs_are_shown_counted_and_left_out(
    make: Make, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("seed=0", "seed=1", "seed=2 scheduler.learning_rate.initial=1e30")
    folder = RunFolder(run_folder(settings("model=mlp", "epochs=2", "seed=1")))
    state = folder.read_state()
    assert state is not None
    state.status = Status.FAILED
    state.write(folder.state)
    folder.record.unlink()  # it failed before its first row
    out = printed(capsys, str(tmp_path / "runs"))
    assert "left out, failed (2 of 2 epochs)" in out
    assert "left out, diverged (" in out
    assert "1 unfinished, 1 diverged left out" in out
    assert "Diverged runs are left out: 1 of warmup_increase" in " ".join(out.split())
    report = (tmp_path / "runs" / "report.html").read_text()
    assert "failed (2 of 2 epochs)" in report
    assert "<p>1 unfinished, 1 diverged left out.</p>" in report
    found = json.loads(printed(capsys, str(tmp_path / "runs"), "--json"))
    assert sorted(run["status"] for run in found["left_out"]) == ["diverged", "failed"]


DAMAGE: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "a torn row": ("record.jsonl", lambda text: text[:-20], "a row is no JSON"),
    "a lost row": ("record.jsonl", lambda text: text.rsplit("\n", 2)[0] + "\n",
                   "record.jsonl ends at step 10 of 20"),
    "rows twice": ("record.jsonl", lambda text: text + text, "out of order"),
    "examples that fall": ("record.jsonl", lambda text: text.replace(": 200,", ": 3,"),
                           "out of order"),
    "a norm below 0": ("record.jsonl", lambda text: text.replace("norm\": 0.1", "norm\": -0.1"),
                       "a norm is below 0"),
    "no position": ("record.jsonl", lambda text: text.replace('"step"', '"stop"'), "step missing"),
    "another file": ("record.jsonl", lambda _: '"words"\n', "not what a run writes"),
    "an empty record": ("record.jsonl", lambda _: "", "missing"),
    "no record": ("record.jsonl", lambda _: None, "No such file"),
    "settings": ("config.yaml", lambda _: "{", "config.yaml"),
    "no settings": ("config.yaml", lambda _: None, "config.yaml"),
    "a state": ("state.json", lambda text: text[:30], "state.json cannot be read"),
    "a seed in words": ("state.json", lambda text: text.replace('"seed": 0', '"seed": "one"'),
                        "state.json: seed cannot be what a run writes"),
    "no state": ("state.json", lambda _: None, "state.json is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_skipped_and_fails_the_command(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [1.0, 0.5, 0.2])
    path = write(tmp_path, [1.0, 0.5, 0.1], scheduler="warmup_increase")
    file, change, reason = DAMAGE[name]
    content = change((path / file).read_text())
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path), "--json"])
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert f"damaged, skipped: {path}: " in said.err
    assert reason in said.err
    found = json.loads(said.out)
    assert list(found["groups"]) == ["decay_constant"]
    assert reason in found["damaged"][0]["reason"]


def test_what_cannot_be_mixed_is_refused_with_what_to_do(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make("epochs=1", "epochs=2")
    root = str(runs[0].path.parents[2])
    with pytest.raises(SystemExit):
        main(["compare", root])
    said = capsys.readouterr().err
    assert "error: these runs differ in more than scheduler and seed (budget: epochs is" in said
    for way in ("--where epochs=", "--by epochs", "--mix budget"):
        assert way in said
    main(["compare", root, "--where", "epochs=1"])
    assert "epochs = 1" in printed(capsys, root, "--by", "epochs")
    assert "were mixed as asked for" in printed(capsys, root, "--mix", "budget")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--mix", "all"], "give some of yardstick, data"),
     (["--by", "scheduler.learning_rate.peek"], "no run has a setting scheduler.learning_rate"),
     (["--reference", "none"], "there is no such group; there are decay_constant"),
     (["--thresholds", "low"], "give numbers"), (["--thresholds", "0"], "must be above 0"),
     (["--formats", "doc"], "the ending must be one of"), (["--output", "a.png"], "give a folder"),
     (["--where", "nothing=1"], "no run has a setting nothing"),
     (["--where", "seed=7"], "no finished run is left")],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [1.0, 0.5])
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), *arguments])
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs in"):
        load_runs([tmp_path])
    with pytest.raises(UsageError, match="is not a folder"):
        load_runs([tmp_path / "none"])


def test_a_run_given_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs", [1.0, 0.5])
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    folders = [str(tmp_path / name) for name in ("runs", "runs", "copy")]
    found = json.loads(printed(capsys, *folders, "--json"))
    assert len(found["groups"]["decay_constant"]["runs"]) == 1
    assert ["a copy of" in out["reason"] for out in found["left_out"]] == [True]


def test_one_group_and_one_seed_say_what_they_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [1.0, 0.5])
    assert "there is nothing to compare it with" in " ".join(printed(capsys, str(tmp_path)).split())
    write(tmp_path, [1.0, 0.4], scheduler="warmup_increase")
    said = " ".join(printed(capsys, str(tmp_path)).split())
    assert "1.25 times smaller" in said
    assert "nobody can say how sure that is" in said
    write(tmp_path, [1.0, 0.1], scheduler="decay_increase", seed=1)
    assert "they have no seed in common" in " ".join(printed(capsys, str(tmp_path)).split())


def test_csv_counts_pairs_and_not_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, norm in enumerate((0.1, 0.9, 0.8)):
        write(tmp_path, [1.0, 0.5], seed=seed)
        write(tmp_path, [1.0, norm], scheduler="warmup_increase", seed=seed)
    rows = list(csv.DictReader(io.StringIO(printed(capsys, str(tmp_path), "--csv"))))
    assert rows[1]["pairs_to_reference"] == "3"
    assert float(rows[1]["probability_to_reference"]) == pytest.approx(1 / 3)
