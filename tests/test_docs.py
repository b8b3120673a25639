"""Every command in README and documentation is valid, and every Python block runs."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import DictConfig

from accelerando import commands, composition
from accelerando.budget import register
from accelerando.build import build_plan, settings_from_hydra
from accelerando.composition import compose_runs, expand_overrides
from accelerando.identity import run_folder
from helpers import ROOT, compose_settings, train

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTENDING = ROOT / "docs" / "extending.md"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNCHECKED = {".", "git", "mypy", "pre-commit", "ruff"}
"""Commands that have no arguments of ours."""


class Block(NamedTuple):
    """A fenced code block of a page."""

    page: Path
    language: str
    title: str
    text: str


BLOCKS = [
    Block(page, *fence.groups("")) for page in PAGES for fence in FENCE.finditer(page.read_text())
]


def shell_commands(text: str) -> Iterator[list[str]]:
    """Split a shell block into the words of its simple commands."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word in ("&&", ";"):
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


COMMANDS = {
    shlex.join(words): (block.page, words)
    for block in BLOCKS
    if block.language == "bash"
    for words in shell_commands(block.text)
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The titled files of docs/extending.md, in a copy of conf/ where they are YAML."""
    folder = tmp_path_factory.mktemp("extending")
    for path in (ROOT / "conf").rglob("*.yaml"):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for block in BLOCKS:
        if block.page == EXTENDING and block.title:
            (folder / block.title).write_text(block.text)
    return folder


@pytest.fixture(autouse=True)
def extended(
    request: pytest.FixtureRequest, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in an empty folder; on docs/extending.md, with the examples of that page."""
    monkeypatch.chdir(tmp_path)
    if (
        getattr(request.node, "callspec", None)
        and EXTENDING in request.node.callspec.params.values()
    ):
        monkeypatch.syspath_prepend(examples)
        monkeypatch.setattr(composition, "conf_folder", lambda: examples / "conf")


@pytest.fixture(autouse=True, scope="module")
def compose_once() -> Iterator[None]:
    """Parse a YAML file, and compose the same run, only once for all commands."""
    load, compose = yaml.load, composition.compose
    parsed: dict[str, Any] = {}
    composed: dict[tuple[str, ...], DictConfig] = {}

    def load_once(file: Any, Loader: Any) -> Any:  # noqa: N803
        if not hasattr(file, "name"):
            return load(file, Loader)
        if file.name not in parsed:
            parsed[file.name] = load(file, Loader)
        return parsed[file.name]

    def compose_once(name: str, overrides: list[str]) -> DictConfig:
        key = (str(composition.conf_folder()), *overrides)
        if key not in composed:
            composed[key] = compose(name, overrides)
        return composed[key]

    register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "load", load_once)
        patch.setattr(composition, "compose", compose_once)
        yield


@pytest.mark.parametrize(("page", "words"), COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_is_valid(
    page: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    match [words[0].removeprefix(".venv/bin/"), *words[1:]]:
        case ["python", "train.py", *arguments]:
            check_training(arguments)
        case ["torchrun", "--nproc-per-node", _, "train.py", *arguments]:
            check_training(arguments)
        case ["python", script, *arguments]:
            check_options((ROOT / script).read_text(), arguments)
        case ["accelerando", name, *arguments]:
            check_subcommand(name, arguments, monkeypatch)
        case ["wandb", name, *arguments]:
            check_wandb(name, arguments)
        case ["sbatch", array, script, *arguments]:
            check_batch_script(array, script, arguments)
        case ["eval", line]:
            assert line == "$(slurm/dev_cluster up)"
        case ["slurm/dev_cluster", name]:
            assert f'"{name}"' in (ROOT / "slurm" / "dev_cluster").read_text()
        case ["pip", "install", *arguments]:
            check_installation(arguments)
        case ["python3", "-m", "venv", ".venv"]:
            pass
        case ["pytest", *arguments]:
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests"))
        case ["mkdocs", name, *_]:
            assert name in ("build", "serve")
        case [name, *_]:
            assert name in UNCHECKED, f"{page}: the tests do not know how to check {name}"


def check_training(arguments: list[str]) -> None:
    """Compose the run, or the last run of the sweep, and fit its schedule."""
    overrides = [word for word in arguments if "=" in word]
    assert set(arguments) - set(overrides) <= {"-m", "--cfg", "job", "--help"}
    if "-m" in arguments or any(word.startswith("+experiment=") for word in overrides):
        overrides = expand_overrides(overrides)[-1]
    with initialize_config_dir(str(composition.conf_folder()), version_base="1.3"):
        settings = settings_from_hydra(composition.compose("config", overrides))
    assert build_plan(settings).total_steps > 0


def check_subcommand(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what needs no runs; of the others, parse the arguments."""
    if name not in ("plan", "expand"):
        monkeypatch.setattr(f"accelerando.commands.{name}.run_command", lambda _: None)
    commands.main([name, *arguments])


def check_options(source: str, arguments: list[str]) -> None:
    for word in arguments:
        assert not word.startswith("-") or f'"{word}"' in source


def check_wandb(name: str, arguments: list[str]) -> None:
    from wandb.cli import cli

    if name == "login":
        return
    cli.cli.commands[name].make_context(name, list(arguments), resilient_parsing=True)
    for word in arguments:
        assert not word.endswith(".yaml") or (ROOT / word).exists()


def check_batch_script(array: str, script: str, arguments: list[str]) -> None:
    assert (ROOT / script).exists()
    if script.endswith("array.sbatch"):
        assert array == f"--array=0-{len(expand_overrides(arguments)) - 1}"


def check_installation(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments[0] == "-e"
    for extra in re.findall(r"\w+", arguments[1].removeprefix(".")):
        assert extra in project["optional-dependencies"]


@pytest.fixture(scope="module")
def trained(examples: Path) -> Path:
    """The folder of the examples, with the run that docs/extending.md trains there."""
    (overrides,) = [
        words[2:] for page, words in COMMANDS.values() if page == EXTENDING and "train.py" in words
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(examples)
        patch.syspath_prepend(examples)
        patch.setattr(composition, "conf_folder", lambda: examples / "conf")
        (settings,) = compose_runs([*overrides, "tracking=disabled"])
        train(settings)
    return examples


def test_examples_of_extending_train(trained: Path) -> None:
    assert list(trained.glob("runs/stripes-bottleneck/step_decay_alternating/*/record.jsonl"))


@pytest.mark.parametrize("arguments", ["status runs", "compare runs", "prune runs --dry-run"])
def test_commands_for_finished_runs_work(
    arguments: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"accelerando {arguments}" in COMMANDS
    monkeypatch.chdir(trained)
    commands.main(arguments.split())


def test_python_blocks_run_without_hydra_and_wandb(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    for name in [name for name in sys.modules if name.partition(".")[0] == "accelerando"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("hydra", "wandb")]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ModuleNotFoundError
    blocks = [block for block in BLOCKS if block.language == "python" and not block.title]
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block.text, str(block.page), "exec"), {})


def test_run_named_in_the_docs_belongs_to_its_sweep() -> None:
    words = [word for _, words in COMMANDS.values() for word in words]
    named = {word for word in words if word.startswith("runs/digits-cnn/")}
    settings = compose_settings(
        "scheduler=warmup_increase", "seed=0", "hardware=slurm_gpu", "root=runs"
    )
    assert named == {str(run_folder(settings))}
