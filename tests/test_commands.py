"""The ``accelerando`` command itself: what it says of itself, and how it ends."""

from __future__ import annotations

import argparse

import pytest

from accelerando.commands import main, sync


def test_help_is_for_users(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Compare batch-size and learning-rate schedulers of SGD" in said
    assert "`" not in said


def test_interrupted_by_hand_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sync, "act", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["sync", "runs"])
    assert left.value.code == 75
    assert capsys.readouterr().err == "interrupted\n"
