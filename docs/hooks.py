"""Extensions of the documentation site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
NAMES = re.compile(r"<!-- generated: names\s+([^>]+?)\s*-->.*?<!-- /generated -->", re.DOTALL)
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """MkDocs: add the pages that lie outside docs/."""
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        content = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name, content=content))


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs: replace tables of names by the documentation of each name."""
    return NAMES.sub(lambda part: "\n\n".join(f"::: {name}" for name in part[1].split()), markdown)


class Doctests(griffe.Extension):
    """mkdocstrings: show a doctest as a code block, without a heading ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)
            obj.docstring.value = text
