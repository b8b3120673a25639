"""Rewrite the generated parts of the documentation: ``python docs/generate.py``.

They are committed, so that the pages are complete on GitHub too. Each stands between two comments,
``<!-- generated: KIND ARGUMENTS -->`` and ``<!-- /generated -->``. The kinds are:

- ``files FOLDER``: a table of the Python files in a folder;
- ``names NAME ...``: a table of public names, which the site replaces by their documentation;
- ``help COMMAND``: what ``accelerando COMMAND --help`` prints;
- ``yaml FILE``: a file.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from pydoc import locate
from unittest.mock import patch

from accelerando.commands import main

ROOT = Path(__file__).parents[1]
GENERATED = re.compile(
    r"(<!-- generated: (\w+)\s+([^>]+?)\s*-->\n).*?(<!-- /generated -->)", re.DOTALL
)


def files(folder: str) -> str:
    """Return a table of the Python files in a folder with their purpose."""
    # the other packages in src/accelerando have tables of their own
    pattern = "*.py" if folder == "src/accelerando" else "**/*.py"
    rows = []
    for path in sorted((ROOT / folder).glob(pattern)):
        module = ast.parse(path.read_text())
        has_code = any(isinstance(part, ast.FunctionDef | ast.ClassDef) for part in module.body)
        if has_code or not path.name.startswith("__"):
            # a package inside the folder is listed by its name
            name = re.sub(r"(?<=/)__init__\.py$", "", str(path.relative_to(ROOT / folder)))
            rows.append((f"`{name}`", ast.get_docstring(module)))
    return _table("file", rows)


def names(dotted_names: str) -> str:
    """Return a table of public names with their purpose and links to the source."""
    rows = []
    for dotted_name in dotted_names.split():
        value = locate(dotted_name)
        source = Path(inspect.getfile(value)).relative_to(ROOT)  # type: ignore[arg-type]
        short_name = dotted_name.rpartition(".")[2]
        rows.append((f"[`{short_name}`](../../{source})", inspect.getdoc(value)))
    return _table("name", rows)


def _table(heading: str, rows: Iterable[tuple[str, str | None]]) -> str:
    lines = [f"| {heading} | purpose |", "| --- | --- |"]
    for name, docstring in rows:
        purpose = (docstring or "").partition("\n")[0].replace("``", "`").replace("|", r"\|")
        lines.append(f"| {name} | {purpose} |")
    return "\n".join(lines)


def help(command: str) -> str:
    """Return what ``accelerando COMMAND --help`` prints, 80 columns wide and without colours."""
    output = io.StringIO()
    with (
        patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"),
        redirect_stdout(output),
        suppress(SystemExit),
    ):
        main([command, "--help"])
    return f"```text\n{output.getvalue()}```"


def yaml(file: str) -> str:
    """Return the name and the content of a YAML file."""
    return f"`{file}`:\n\n```yaml\n{(ROOT / file).read_text()}```"


KINDS = {function.__name__: function for function in (files, names, help, yaml)}


def regenerate(markdown: str) -> str:
    """Return a page with its generated parts up to date."""
    return GENERATED.sub(
        lambda part: f"{part[1]}\n{KINDS[part[2]](part[3])}\n\n{part[4]}", markdown
    )


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").rglob("*.md")):
        page.write_text(regenerate(page.read_text()))
