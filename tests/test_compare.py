"""The ``compare`` command: its output for real and damaged runs, and its error messages."""

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
from synthetic_runs import Make, compare_output, recorded_norms, write_run


def unwrap(text: str) -> str:
    """Undo the line breaks of a terminal."""
    return " ".join(text.split())


def test_json_agrees_with_the_records(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trains real runs and recomputes the results from their files."""
    runs = make(*(f"scheduler={name} seed={seed}" for name in ("decay_constant", "warmup_increase")
                  for seed in (0, 1)))  # fmt: skip
    output = compare_output(capsys, f"{tmp_path}/runs", "--json", "--thresholds", "0.3")
    axes = json.loads(output)["axes"]
    minima = {
        name: [min(recorded_norms(run)[1:]) for run in runs if run.state.scheduler == name]
        for name in ("decay_constant", "warmup_increase")
    }
    groups = axes["epochs"]["groups"]
    for name, values in minima.items():
        assert groups[name]["norm"]["mean"] == pytest.approx(sum(values) / 2)
        assert groups[name]["norm"]["lowest"] == min(values)
    assert axes["epochs"]["order"] == sorted(minima, key=lambda name: sum(minima[name]))
    test = groups["warmup_increase"]["against_reference"]
    pairs = list(zip(minima["warmup_increase"], minima["decay_constant"], strict=True))
    assert test["ratio"] == pytest.approx(math.sqrt(math.prod(a / b for a, b in pairs)))
    assert test["difference"] == pytest.approx(sum(a - b for a, b in pairs) / 2)
    # the group with larger batches takes fewer steps, which are the common budget
    constant = [run for run in runs if run.state.scheduler == "decay_constant"]
    assert axes["steps"]["budget"] == constant[0].state.steps
    reached = sum(
        min(recorded_norms(run)) <= 0.3 for run in runs if run.state.scheduler == "warmup_increase"
    )
    assert groups["warmup_increase"]["reach"][0]["reached"] == reached
    assert not (tmp_path / "runs" / "report.html").exists()


def test_csv_has_a_row_for_each_group_and_axis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(6):
        write_run(tmp_path, [1.0, 0.2, 0.2], seed=seed)
        write_run(tmp_path, [1.0, 0.1, 0.1], scheduler="warmup_increase", seed=seed)
    rows = list(csv.DictReader(io.StringIO(compare_output(capsys, str(tmp_path), "--csv"))))
    assert [(row["group"], row["axis"]) for row in rows[:3]] == [
        ("decay_constant", "epochs"), ("warmup_increase", "epochs"), ("decay_constant", "steps"),
    ]  # fmt: skip
    assert len(rows) == 8
    assert float(rows[1]["norm_mean"]) == pytest.approx(0.1)
    assert float(rows[1]["ratio_to_reference"]) == pytest.approx(0.5)
    assert rows[0]["ratio_to_reference"] == ""
    assert (rows[0]["reached_0.1"], rows[0]["cost_0.1"]) == ("0", "")
    assert rows[1]["speed_up_0.1_bound"] == "at least"


def test_csv_counts_pairs_rather_than_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, norm in enumerate((0.1, 0.9, 0.8)):
        write_run(tmp_path, [1.0, 0.5], seed=seed)
        write_run(tmp_path, [1.0, norm], scheduler="warmup_increase", seed=seed)
    rows = list(csv.DictReader(io.StringIO(compare_output(capsys, str(tmp_path), "--csv"))))
    assert rows[1]["pairs_to_reference"] == "3"
    assert float(rows[1]["probability_to_reference"]) == pytest.approx(1 / 3)


def test_the_command_prints_tables_and_writes_figures_and_the_report(
    make: Make, tmp_path: Path
) -> None:
    make("scheduler=decay_constant epochs=10", "scheduler=increase_increase epochs=10")
    (tmp_path / "runs" / "digits-mlp" / "x").mkdir()
    command = [sys.executable, "-m", "accelerando.commands", "compare", f"{tmp_path}/runs"]
    for x in ("epochs", "steps", "examples", "seconds"):
        options = ["--x", x, "--output", f"{tmp_path}/out/{x}", "--formats", "png,svg,pdf"]
        result = subprocess.run([*command, *options], capture_output=True, text=True,
                                env={**os.environ, "COLUMNS": "140"})  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "(iii) increasing batch, increasing rate" in result.stdout
        assert f"At equal {x}" in result.stdout
        for name in ("comparison", "differences", "speed_up"):
            assert f"{name}.{{png,svg,pdf}}" in result.stdout
            figure = tmp_path / "out" / x / name
            assert figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
            assert "<svg" in figure.with_suffix(".svg").read_text()
            assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / x / "report.html").exists()
    assert not (tmp_path / "runs" / "report.html").exists()


def test_tables_fit_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for seed in range(3):
        for name, rate in (("decay_constant", 0.53), ("increase_increase", 0.51)):
            norms = [1.2345 * (rate + seed / 50) ** k for k in range(12)]
            write_run(tmp_path, norms, scheduler=name, seed=seed)
    output = compare_output(capsys, str(tmp_path), "--output", str(tmp_path / "out"))
    tables = output.partition("At equal epochs (11),")[0]
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in output


def test_incomplete_runs_are_listed_counted_and_left_out(
    make: Make, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("seed=0", "seed=1", "seed=2 scheduler.learning_rate.initial=1e30")
    folder = RunFolder(run_folder(settings("model=mlp", "epochs=2", "seed=1")))
    state = folder.read_state()
    assert state is not None
    state.status = Status.FAILED
    state.write(folder.state)
    folder.record.unlink()  # as if it failed before its first row
    output = compare_output(capsys, str(tmp_path / "runs"))
    assert "left out, failed (2 of 2 epochs)" in output
    assert "Left out: 1 unfinished" in output
    assert "1 of 1 diverged. It is ranked after the groups without failures" in unwrap(output)
    report = (tmp_path / "runs" / "report.html").read_text()
    assert "failed (2 of 2 epochs)" in report
    assert "<p>Left out: 1 unfinished.</p>" in report
    results = json.loads(compare_output(capsys, str(tmp_path / "runs"), "--json"))
    assert sorted(run["status"] for run in results["left_out"]) == ["failed"]


DAMAGE: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "truncated row": ("record.jsonl", lambda text: text[:-20], "a row is not JSON"),
    "missing row": ("record.jsonl", lambda text: text.rsplit("\n", 2)[0] + "\n",
                    "record.jsonl ends at step 10 of 20"),
    "repeated rows": ("record.jsonl", lambda text: text + text, "rows out of order"),
    "decreasing examples": ("record.jsonl", lambda text: text.replace(": 200,", ": 3,"),
                            "rows out of order"),
    "negative norm": ("record.jsonl", lambda text: text.replace("norm\": 0.1", "norm\": -0.1"),
                      "negative norm"),
    "missing position": ("record.jsonl", lambda text: text.replace('"step"', '"stop"'),
                         "step missing"),
    "other contents": ("record.jsonl", lambda _: '"words"\n', "unexpected contents"),
    "empty record": ("record.jsonl", lambda _: "", "missing"),
    "missing record": ("record.jsonl", lambda _: None, "No such file"),
    "invalid settings": ("config.yaml", lambda _: "{", "config.yaml"),
    "missing settings": ("config.yaml", lambda _: None, "config.yaml"),
    "truncated state": ("state.json", lambda text: text[:30], "state.json is unreadable"),
    "invalid seed": ("state.json", lambda text: text.replace('"seed": 0', '"seed": "one"'),
                     "state.json: invalid seed"),
    "missing state": ("state.json", lambda _: None, "state.json is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_reported_and_skipped_with_exit_code_1(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [1.0, 0.5, 0.2])
    path = write_run(tmp_path, [1.0, 0.5, 0.1], scheduler="warmup_increase")
    file, damage, reason = DAMAGE[name]
    content = damage((path / file).read_text())
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content)
    with pytest.raises(SystemExit) as exit_info:
        main(["compare", str(tmp_path), "--json"])
    assert exit_info.value.code == 1
    captured = capsys.readouterr()
    assert f"damaged, skipped: {path}: " in captured.err
    assert reason in captured.err
    results = json.loads(captured.out)
    assert list(results["groups"]) == ["decay_constant"]
    assert reason in results["damaged"][0]["reason"]


def test_runs_that_cannot_be_mixed_are_refused_with_remedies(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make("epochs=1", "epochs=2")
    root = str(runs[0].path.parents[2])
    with pytest.raises(SystemExit):
        main(["compare", root])
    error = capsys.readouterr().err
    assert "error: these runs differ in more than scheduler and seed (budget: epochs is" in error
    for remedy in ("--where epochs=", "--by epochs", "--mix budget"):
        assert remedy in error
    main(["compare", root, "--where", "epochs=1"])
    assert "epochs = 1" in compare_output(capsys, root, "--by", "epochs")
    output = compare_output(capsys, root, "--mix", "budget")
    assert "--mix allowed the runs to differ in budget" in output


def test_mix_accepts_both_names_of_the_arithmetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, precision in enumerate(("fp32", "bf16")):
        write_run(tmp_path, [1.0, 0.5], seed=seed, settings={"precision": precision})
    output = compare_output(capsys, str(tmp_path), "--json", "--mix", "precision")
    assert output == compare_output(capsys, str(tmp_path), "--json", "--mix", "arithmetic")
    assert len(json.loads(output)["groups"]["decay_constant"]["runs"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--mix", "all"], "use some of yardstick, data"),
     (["--by", "scheduler.learning_rate.peek"], "no run has a setting scheduler.learning_rate"),
     (["--reference", "none"], "no such group; choose one of decay_constant"),
     (["--thresholds", "low"], "use numbers"), (["--thresholds", "0"], "must be above 0"),
     (["--formats", "doc"], "must be one of"), (["--output", "a.png"], "use a folder"),
     (["--where", "nothing=1"], "no run has a setting nothing"),
     (["--where", "seed=7"], "no finished runs to compare")],
)  # fmt: skip
def test_usage_errors_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [1.0, 0.5])
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), *arguments])
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs in"):
        load_runs([tmp_path])
    with pytest.raises(UsageError, match="is not a folder"):
        load_runs([tmp_path / "none"])


def test_copies_of_a_run_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs", [1.0, 0.5])
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    folders = [str(tmp_path / name) for name in ("runs", "runs", "copy")]
    results = json.loads(compare_output(capsys, *folders, "--json"))
    assert len(results["groups"]["decay_constant"]["runs"]) == 1
    assert ["a copy of" in run["reason"] for run in results["left_out"]] == [True]


def test_few_groups_and_seeds_are_compared_as_far_as_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [1.0, 0.5])
    output = unwrap(compare_output(capsys, str(tmp_path)))
    assert "there is no other group to compare it with" in output
    write_run(tmp_path, [1.0, 0.4], scheduler="warmup_increase")
    output = unwrap(compare_output(capsys, str(tmp_path)))
    assert "1.25 times smaller" in output
    assert "one common seed does not show how certain that is" in output
    write_run(tmp_path, [1.0, 0.1], scheduler="decay_increase", seed=1)
    assert "they have no seeds in common" in unwrap(compare_output(capsys, str(tmp_path)))
