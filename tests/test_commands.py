"""The ``accelerando`` command: its help, and how it ends."""

from __future__ import annotations

import argparse

import pytest

from accelerando.commands import main, sync


def test_help_describes_the_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Compare batch-size and learning-rate schedulers of SGD" in text
    assert "`" not in text


def test_ctrl_c_ends_with_one_line_and_exit_code_75(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sync, "run_command", interrupt)
    with pytest.raises(SystemExit) as caught:
        main(["sync", "runs"])
    assert caught.value.code == 75
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", ["plan", "expand"])
def test_a_sweep_without_runs_is_an_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main([command, "scheduler=glob(nothing*)", "seed=0,1"])
    assert "the overrides expand to no runs" in capsys.readouterr().err
