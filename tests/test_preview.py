"""``accelerando plan``: its output, its error messages and what it imports."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accelerando.commands import main
from helpers import table_rows

PAPER = ["epochs=300", "--examples", "50000"]


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["plan", *arguments])
    return capsys.readouterr().out


PUBLISHED = {
    "i_diminishing": ["scheduler=decay_constant", "scheduler/learning_rate=diminishing"],
    "i_polynomial2": ["scheduler=decay_constant", "scheduler/learning_rate=polynomial"],
    "ii_cosine": ["scheduler=decay_increase"],
    "ii_linear": ["scheduler=decay_increase", "scheduler/learning_rate=linear"],
    "iii_double_max0.2": ["scheduler=increase_increase"],
    "iii_double_max1.0": ["scheduler=increase_increase", "scheduler.learning_rate.final=1.0"],
    "iii_quadruple_max0.2": [
        "scheduler=increase_increase",
        "scheduler.batch_size.growth=4",
        "scheduler.batch_size.final=4096",
        "scheduler.learning_rate.growth=1.9",
        "scheduler.learning_rate.final=0.2",
    ],
    "iv_constant_max0.2": ["scheduler=warmup_increase"],
    "iv_cosine_max1.0": [
        "scheduler/learning_rate=warmup_cosine",
        "scheduler.learning_rate.peak=1.0",
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schedules_need_only_a_few_overrides(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a run of the paper's length, the command prints the published table."""
    text = plan(capsys, *PUBLISHED[name], *PAPER, "--csv")
    rows, expected = list(csv.DictReader(io.StringIO(text))), table_rows(name)
    assert list(rows[0]) == list(expected[0])
    for row, reference in zip(rows, expected, strict=True):
        for column in reference:
            assert float(row[column]) == pytest.approx(float(reference[column]), rel=1e-9)
    totals = json.loads(plan(capsys, *PUBLISHED[name], *PAPER, "--json"))
    (summary,) = [row for row in table_rows("summary") if row["schedule"] == name]
    assert totals["total_steps"] == int(summary["total_steps"])
    assert totals["B_T"] == pytest.approx(float(summary["B_T"]), rel=1e-9)
    assert totals["V_T"] == pytest.approx(float(summary["V_T"]), rel=1e-9)
    assert totals["total_examples"] == 15_000_000


def test_growth_and_final_of_the_batch_size(capsys: pytest.CaptureFixture[str]) -> None:
    def sizes(*overrides: str) -> list[int]:
        text = plan(capsys, "epochs=5", "--examples", "1000", "--csv", *overrides)
        return [int(row["batch_size"]) for row in csv.DictReader(io.StringIO(text))]

    growth, final = "scheduler.batch_size.growth=3", "scheduler.batch_size.final=648"
    assert sizes() == [8, 16, 32, 64, 128]
    assert sizes(growth) == [8, 24, 72, 216, 648]
    assert sizes(final) == [8, 24, 72, 216, 648]
    assert sizes(growth, "scheduler.batch_size.final=88") == [8, 10, 16, 34, 88]
    assert sizes("scheduler.batch_size.maximum=20") == [8, 16, 20, 20, 20]


def test_several_schedules_are_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figure = tmp_path / "made" / "plan.png"
    text = plan(capsys, "scheduler=glob(*)", "-m", "seed=0,1", *PAPER, "--figure", str(figure))
    assert "equal epochs (300), equal examples (15,000,000)" in text
    assert "equal steps (117,300)" in text
    assert text.count("warmup_increase") == 3  # its picture and a row in each table
    assert figure.read_bytes().startswith(b"\x89PNG")
    totals = json.loads(plan(capsys, "scheduler=glob(*)", *PAPER, "--json"))
    assert [part["total_steps"] for part in totals] == [117_300, 374_760, 374_760, 374_760]
    table = plan(capsys, "scheduler.batch_size.initial=8,16", "epochs=2", "--csv")
    assert table.startswith("scheduler,epoch,batch_size")
    assert "batch_size.initial=16" in table


def test_names_are_those_of_a_comparison(
    capsys: pytest.CaptureFixture[str],
) -> None:
    totals = json.loads(plan(capsys, "+experiment=shapes_digits", "--json"))
    names = [part["scheduler"] for part in totals]
    assert len(names) == len(set(names)) == 19
    assert "decay_constant Linear" in names
    assert "warmup_increase WarmupCosine learning_rate.peak=0.5" in names


def test_names_include_lengths_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    totals = json.loads(plan(capsys, "-m", "epochs=2,4", "seed=0,1", "--json"))
    names = [part["scheduler"] for part in totals]
    assert names == ["warmup_increase epochs=2", "warmup_increase epochs=4"]


def test_totals_at_equal_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """At 117,300 steps the doubling schedule is 18.768 epochs in, still at b = 8."""
    text = plan(capsys, "scheduler=decay_constant,increase_increase", *PAPER)
    last = [line for line in text.splitlines() if line.strip().startswith("increase_inc")][-1]
    assert last.split()[1:5] == ["18.77", "117,300", "938,400", "8"]


def test_bound_and_its_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    problem = ["--smoothness", "5", "--variance", "10", "--gap", "2.3"]
    text = plan(capsys, "scheduler=glob(*)", *PAPER, *problem, "--crossing", "3")
    assert "the bound is a guide, not a verdict" in text
    steep = plan(capsys, *PAPER, "--smoothness", "20", "--variance", "10", "--gap", "2.3")
    assert "no bound: the largest learning rate must be below 2 / L = 0.1, got 0.2" in steep
    warned = plan(capsys, "scheduler=increase_increase", "scheduler.learning_rate.growth=1.5")
    assert "grows too fast for the batch size" in warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scheduler.batch_size.growth=0.5"], "growth must be at least 1, got 0.5"),
        (["scheduler.batch_size.interval=101"], "interval must be at most the length of the run"),
        (["scheduler.learning_rate.warmup_interval=10"], "must be shorter than warmup_epochs"),
        (["scheduler.learning_rate.warmup_epochs=101"], "must be at most the length of the run"),
        (["scheduler.batch_size.final=1438"], "final must be at most the number of training"),
        (["scheduler.batch_size.final=7"], "final must be at least initial"),
        (["scheduler.learning_rate.initial=inf"], "must be a finite number, got inf"),
        (["epochs=-1"], "error: epochs must be at least 1, got -1"),
        (["optimizer=adamw"], "Could not find 'optimizer/adamw'"),
        (["scheduler=none"], "Could not find 'scheduler/none'"),
        (["--smoothness", "1"], "the bound needs --smoothness, --variance and --gap"),
        (["--crossing", "3"], "--crossing needs"),
        (["--examples", "0"], "examples must be at least 1, got 0"),
        (["--figure", "plan.abc"], "the ending must be one of"),
    ],
)
def test_invalid_arguments_are_reported(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *arguments])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_torch_wandb_and_matplotlib_are_not_imported() -> None:
    code = (
        "import sys; from accelerando.commands import main; main(['plan', '--json'])\n"
        "assert not {'torch', 'wandb', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    totals: dict[str, Any] = json.loads(result.stdout)
    assert totals["total_steps"] == 3630
