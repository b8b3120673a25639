"""``accelerando logs`` prints the output of a run's SLURM job, then that of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.commands.logs import output_files
from accelerando.runs.slurm_record import SlurmRecord


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a submitted run, which also contains the output files of its job."""
    monkeypatch.setenv("PATH", "")  # SLURM is not asked
    SlurmRecord("7_1", str(tmp_path / "7_1_0_log.out"), job_starts_run=True).write(tmp_path)
    return tmp_path


def test_missing_output_is_reported(folder: Path) -> None:
    with pytest.raises(UsageError, match="SLURM does not respond"):
        output_files(folder)


def test_output_of_the_job_precedes_that_of_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "7_1_0_log.out").write_text("of the job\n")
    main(["logs", str(folder)])
    assert capsys.readouterr().out == "of the job\n"
    (folder / "output.log").write_text("of the run\n")
    main(["logs", str(folder)])
    headed = [f"==> {folder}/7_1_0_log.out <==", "of the job"]
    headed += [f"==> {folder}/output.log <==", "of the run"]
    assert capsys.readouterr().out.splitlines() == headed


def test_outputs_of_all_tasks_are_in_order(folder: Path) -> None:
    (folder / "output.log").touch()
    for name in ("10_log.out", "2_log.out", "0_log.out", "0_log.err"):
        (folder / f"7_1_{name}").touch()
    (folder / "7_10_0_log.out").touch()  # of another job
    names = [path.name.removeprefix("7_1_") for path in output_files(folder)]
    assert names == ["0_log.err", "0_log.out", "2_log.out", "10_log.out", "output.log"]


def test_other_folder_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["logs", str(folder / "missing")])
    assert "is not a run folder" in capsys.readouterr().err
