"""Extensions of the documentation build: command help, included files, doctests as code blocks."""

from __future__ import annotations

import ast
import io
import os
import re
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import griffe

from accelerando.commands import main

ROOT = Path(__file__).parents[1]
HELP = re.compile(r"<!-- help: (\w+) -->")
FILES = re.compile(r"<!-- files: (\S+) -->")
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def command_help(name: str) -> str:
    """Return what ``accelerando NAME --help`` prints, 80 columns wide and without colours."""
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    output = io.StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        main([name, "--help"])
    return output.getvalue()


def included(name: str) -> str:
    """Return a Markdown file of the repository's top folder, with its links as seen from docs/."""
    text = (ROOT / name).read_text().replace("](docs/", "](")
    return re.sub(r"\]\(([A-Z]+)\.md", lambda match: f"]({match[1].lower()}.md", text)


def file_table(package: str) -> str:
    """Return a table of a package's modules with the first line of their docstrings.

    Args:
        package: a folder relative to src/. ``accelerando`` lists only the modules at its top.
    """
    folder = ROOT / "src" / package
    pattern = "*.py" if package == "accelerando" else "**/*.py"
    rows = ["| file | purpose |", "| --- | --- |"]
    for path in sorted(folder.glob(pattern)):
        text = ast.get_docstring(ast.parse(path.read_text()))
        if text and not path.name.startswith("__"):
            purpose = text.splitlines()[0].replace("``", "`")
            rows.append(f"| `{path.relative_to(folder)}` | {purpose} |")
    return "\n".join(rows)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs: replace the placeholders for help, tables of files and included files."""
    markdown = FILES.sub(lambda match: file_table(match[1]), markdown)
    markdown = HELP.sub(lambda match: f"```text\n{command_help(match[1])}```", markdown)
    return INCLUDE.sub(lambda match: included(match[1]), markdown)


class Doctests(griffe.Extension):
    """mkdocstrings: show a doctest as a code block, without a heading ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)
            obj.docstring.value = text
