"""README and documentation: links, generated parts, complete lists, the path of a batch size."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import sys
from pathlib import Path
from types import FrameType

import pytest

from accelerando import commands
from accelerando.identity import run_folder
from helpers import ROOT, compose_settings, read_rows, train

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
REFERENCE = ROOT / "docs" / "reference"
regenerate = runpy.run_path(str(ROOT / "docs" / "generate.py"))["regenerate"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text()
    # argparse breaks lines in other places in other versions of Python
    assert text.split() == regenerate(text).split(), "run `python docs/generate.py`"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and the site give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@each_page
def test_relative_links_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_contributing_lists_every_test_file() -> None:
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    listed = re.findall(r"`(test_\w+)`", "".join(rows))
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "tests").glob("test_*.py"))


def test_every_subcommand_has_a_section() -> None:
    page = (REFERENCE / "commands.md").read_text()
    sections = re.findall(
        r"^## accelerando (\w+)\n\n<!-- generated: help (\w+) -->$", page, re.MULTILINE
    )
    assert sections == [(name, name) for name in commands.COMMANDS]


def test_reference_covers_the_public_names() -> None:
    text = "".join(path.read_text() for path in REFERENCE.glob("*.md"))
    documented = re.findall(r"^(accelerando\..+)\.(\w+)$", text, re.MULTILINE)
    for module in ("accelerando.schedule", "accelerando.measure", "accelerando.models"):
        for name in importlib.import_module(module).__all__:
            assert (module, name) in documented


def source_of(path: Path, qualified_name: str) -> str:
    """Return the source of a class or function, or of the complete file."""
    source = path.read_text()
    if not qualified_name:
        return source
    node: ast.AST = ast.parse(source)
    for name in qualified_name.split("."):
        (node,) = (n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == name)
    return str(ast.get_source_segment(source, node))


def test_batch_size_takes_the_documented_path(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(
        r"^\| \d \| `([^`]+)`(?:, `([^`]+)`)? \|[^|]+\| `([^`]+)` \|$", page, re.MULTILINE
    )
    assert len(steps) == 9
    for file, name, code in steps:
        folder = ROOT if file.startswith("conf/") else ROOT / "src" / "accelerando"
        assert code in source_of(folder / file, name), f"{file}, {name} does not contain {code}"

    called: list[str] = []

    def record_call(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and (name := code.co_qualname.removesuffix(".__call__")) in names:
            called.append(name)

    names = [name for _, name, _ in steps[1:-1]]  # W&B has tests of its own
    overrides = (
        "dataset=synthetic",
        "dataset.examples=64",
        "dataset.shape=[1,8,8]",
        "epochs=1",
        "scheduler.batch_size.initial=16",
    )
    sys.setprofile(record_call)
    try:
        settings = compose_settings(*overrides, f"root={tmp_path}", "tracking=disabled")
        train(settings)
    finally:
        sys.setprofile(None)
    # a row is also written before the first step
    planning, training = (
        called[: called.index("Loop._row")],
        called[called.index("Loop._advance") :],
    )
    assert list(dict.fromkeys(planning + training)) == names
    rows = read_rows(run_folder(settings) / "record.jsonl")
    assert [row["batch_size"] for row in rows] == [16, 16]
