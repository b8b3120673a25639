"""Extensions of the documentation build: command help on pages, doctests as code blocks."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout, suppress
from typing import Any

import griffe

from accelerando.commands import main

PLACEHOLDER = re.compile(r"<!-- help: (\w+) -->")
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def command_help(name: str) -> str:
    """Return what ``accelerando NAME --help`` prints, 80 columns wide and without colours."""
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    output = io.StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        main([name, "--help"])
    return output.getvalue()


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs: replace each ``<!-- help: NAME -->`` by a code block with that command's help."""
    return PLACEHOLDER.sub(lambda match: f"```text\n{command_help(match[1])}```", markdown)


class Doctests(griffe.Extension):
    """mkdocstrings: show a doctest as a code block, without a heading ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)
            obj.docstring.value = text
