"""Architecture: imports point one way, files are short, every YAML file composes and builds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from accelerando.build import build, build_plan, build_source
from accelerando.config import RunSettings

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
    "build",
    "validation",
    "identity",
    "torch_adapter",
    "distributed",
    "data",
    "models",
    "measure",
    "atomic_write",
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
    """Not inside a room either, and not for the type checker alone."""
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


def options(group: str) -> list[str]:
    folder = ROOT / "conf" / group
    names = [path.relative_to(folder).with_suffix("") for path in folder.glob("*.yaml")]
    if group == "scheduler":
        for more in ("extra", "control"):
            names += [Path(more) / path.stem for path in (folder / more).glob("*.yaml")]
    return sorted(map(str, names))


CHOICES = [
    f"{group}={option}"
    for group in ("model", "dataset", "scheduler", "optimizer", "hardware", "tracking")
    for option in options(group)
] + [
    f"scheduler/{group}={option}"
    for group in ("batch_size", "learning_rate")
    for option in options(f"scheduler/{group}")
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(
    choice: str, settings: Callable[..., RunSettings]
) -> None:
    more = []
    if choice.endswith("=list"):
        group = choice.removesuffix("=list").replace("/", ".")
        more = [f"{group}.values=[[0,8],[3,16]]"]
    config = settings(choice, *more)
    assert "???" not in str(config.tree)
    assert build_plan(config).epochs == config.epochs
    assert build_source(config).examples == config.dataset.examples
    model = build("model", config.model.target, shape=list(config.dataset.shape), classes=10)
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("scheduler", options("scheduler"))
@pytest.mark.parametrize("epochs", [1, 2])
def test_runs_of_one_or_two_epochs_have_a_plan(
    scheduler: str, epochs: int, settings: Callable[..., RunSettings]
) -> None:
    assert build_plan(settings(f"scheduler={scheduler}", f"epochs={epochs}")).epochs == epochs


def test_every_hardware_has_a_launcher() -> None:
    assert options("hydra/launcher") == options("hardware")
