"""Architecture: imports point one way and stay light, and files are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "accelerando"
ROOMS = [
    "checks",
    "hydra_adapter",
    "interruption",
    "randomness",
    "provenance",
    "schedule",
    "packaged_schedulers",
    "scheduler_names",
    "config",
    "identity",
    "torch_adapter",
    "distributed",
    "atomic_write",
    "data",
    "build",
    "budget",
    "validation",
    "models",
    "measure",
    "terminal",
    "runs",
    "wandb_mirror",
    "training",
    "entry",
    "launch",
    "composition",
    "plotting",
    "compare",
    "preview",
    "commands",
]
"""The packages and top-level modules; none imports a later one."""


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, also under ``TYPE_CHECKING``."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                imported.add(submodule if submodule in MODULES else node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    return {name for name in imported if name in MODULES} - {module_name(path)}


def room(module: str) -> int:
    return ROOMS.index(module.split(".")[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_a_later_room(path: Path) -> None:
    here = room(module_name(path))
    assert [name for name in sorted(imports(path)) if room(name) > here] == []


def test_no_import_cycles() -> None:
    """No modules import each other in a circle: not in the same part, nor for type checks only."""
    TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).prepare()


def test_files_are_short() -> None:
    assets = [path for ending in ("js", "css", "html") for path in SOURCE.rglob(f"*.{ending}")]
    lengths = {path: len(path.read_text().splitlines()) for path in [*FILES, *assets]}
    assert {path: n for path, n in lengths.items() if n > 300} == {}


LIGHT = {
    "accelerando.schedule": ["torch", "hydra", "omegaconf", "wandb", "matplotlib", "pandas"],
    "accelerando.scheduler_names": ["torch", "hydra", "omegaconf", "wandb", "matplotlib"],
    "accelerando.entry": ["torch", "wandb", "matplotlib", "pandas", "sklearn"],
    "accelerando.launch.sweep": ["torch", "wandb", "matplotlib", "pandas", "sklearn"],
    "accelerando.preview.text": ["torch", "wandb", "pandas", "sklearn"],
    "accelerando.commands.plan": ["torch", "wandb", "pandas", "sklearn", "matplotlib"],
    "accelerando.compare.load": ["torch", "wandb", "hydra", "matplotlib"],
    "accelerando.compare.comparison": ["torch", "wandb", "hydra", "scipy.stats"],
    "accelerando.compare.figures": ["torch", "wandb", "hydra"],
    "accelerando.compare.report": ["torch", "wandb", "hydra"],
}


@pytest.mark.parametrize(("module", "heavy"), LIGHT.items(), ids=list(LIGHT))
def test_import_stays_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
