"""Extensions of the documentation build: command help, included files, doctests as code blocks."""

from __future__ import annotations

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


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs: replace ``<!-- help: COMMAND -->`` and ``<!-- include: FILE -->``."""
    markdown = HELP.sub(lambda match: f"```text\n{command_help(match[1])}```", markdown)
    return INCLUDE.sub(lambda match: included(match[1]), markdown)


class Doctests(griffe.Extension):
    """mkdocstrings: show a doctest as a code block, without a heading ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)
            obj.docstring.value = text
