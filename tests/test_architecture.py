"""The house: imports point one way, files stay short, every YAML file composes and builds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
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
"""Data flows down this list; nothing imports a later room."""


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, but for those it names for the type checker alone."""
    tree = ast.parse(path.read_text())
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    here = ROOMS.index(room(path))
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "accelerando" and len(parts) > 1:
            assert ROOMS.index(parts[1]) <= here, f"{path} imports {module}"


def test_files_are_short() -> None:
    assets = [path for ending in ("js", "css", "html") for path in SOURCE.rglob(f"*.{ending}")]
    lengths = {path: len(path.read_text().splitlines()) for path in [*FILES, *assets]}
    assert {path: n for path, n in lengths.items() if n > 300} == {}


LIGHT = {
    "accelerando.schedule": ["torch", "hydra", "omegaconf", "wandb", "matplotlib", "pandas"],
    "accelerando.entry": ["torch", "wandb", "matplotlib", "pandas", "sklearn"],
    "accelerando.launch.sweep": ["torch", "wandb", "matplotlib", "pandas", "sklearn"],
    "accelerando.preview.text": ["torch", "wandb", "pandas", "sklearn"],
    "accelerando.commands.plan": ["torch", "wandb", "pandas", "sklearn", "matplotlib"],
    "accelerando.compare.load": ["torch", "wandb", "hydra", "matplotlib"],
    "accelerando.compare.comparison": ["torch", "wandb", "hydra", "scipy.stats"],
    "accelerando.compare.pictures": ["torch", "wandb", "hydra"],
    "accelerando.compare.report": ["torch", "wandb", "hydra"],
}


@pytest.mark.parametrize(("module", "heavy"), LIGHT.items(), ids=list(LIGHT))
def test_starts_light(module: str, heavy: list[str]) -> None:
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
def test_the_shortest_runs_have_a_plan(
    scheduler: str, epochs: int, settings: Callable[..., RunSettings]
) -> None:
    assert build_plan(settings(f"scheduler={scheduler}", f"epochs={epochs}")).epochs == epochs


def test_no_launcher_is_missing() -> None:
    assert options("hydra/launcher") == options("hardware")
