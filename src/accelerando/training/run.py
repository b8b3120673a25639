"""One run, from its settings to its last row."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from accelerando.config import build, check, load, run_folder, run_id
from accelerando.data.images import Images, on_device
from accelerando.interruption import Interrupted, Interruption
from accelerando.provenance import commit
from accelerando.randomness import Purpose, torch_seed
from accelerando.schedule import Plan
from accelerando.tracking.folder import (
    DIVERGED,
    ENDED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    RunFolder,
    State,
    write_whole,
)
from accelerando.tracking.progress import ProgressView
from accelerando.tracking.recorder import Recorder
from accelerando.tracking.wandb_mirror import WandbMirror, resolve_mode
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.device import environment, prepare_device
from accelerando.training.loop import Diverged, Loop
from accelerando.training.measurement import Measurement
from accelerando.training.step import SgdStep


@dataclass(frozen=True)
class Task:
    """All that a run needs, made before its folder is touched."""

    config: DictConfig
    plan: Plan
    folder: RunFolder
    device: torch.device
    model: nn.Module
    data: tuple[Images, Images]
    measurement: Measurement
    stop: Interruption
    console: Console


def run(config: DictConfig, overrides: Sequence[str], console: Console) -> State:
    """Train one run, go on with it where it was interrupted, or find it finished.

    Args:
        config: the composed settings.
        overrides: the command line that made them, recorded so that it can be given again.
        console: where progress is shown.

    Raises:
        UsageError: a setting is out of range, or another process has the run; nothing was trained.
        Interrupted: a signal asked to stop; the same command goes on from there.
    """
    with Interruption() as stop:
        plan, folder = check(config), RunFolder(run_folder(config))
        if (ended := _ended(folder, console)) is not None:
            return ended
        device = prepare_device(config.hardware.device, config.hardware.threads)
        model = seeded_model(config).to(device).train()
        data = on_device(load(config), device)
        measurement = Measurement(config.measure, plan, data, config.seed)
        measurement.suits(model)
        stop.pause()
        task = Task(config, plan, folder, device, model, data, measurement, stop, console)
        with folder.held():
            # the process that held it a moment ago may have finished it
            return _ended(folder, console) or _train(task, overrides)


def _ended(folder: RunFolder, console: Console) -> State | None:
    state = folder.read_state()
    if state is None or state.status not in ENDED:
        return None
    console.print(f"{state.status} already, nothing to do: {folder.path}")
    if state.environment.get("commit") != commit():
        console.print(f"note: by other code, {state.environment.get('commit')}; {_ANEW}")
    return state


_ANEW = "remove the folder to run it anew"


def _train(task: Task, overrides: Sequence[str]) -> State:
    """Keep ``state.json`` and W&B true to what happens to the run."""
    folder, start = task.folder, Checkpoint.load(task.folder.checkpoint, task.device)
    state = _state(task, overrides, start)
    for note in task.plan.notes:
        task.console.print(f"note: {note}")
    write_whole(folder.config, _resolved(task.config).encode())
    folder.write_state(state)
    with ExitStack() as stack:
        try:
            mirror = _mirror(task.config, folder, state)
            if mirror is not None:
                stack.callback(mirror.finish, state)
            _loop(task, state, start, mirror)
            state.status = FINISHED
        except Diverged as error:
            state.status, state.message = DIVERGED, str(error)
        except (Interrupted, KeyboardInterrupt) as error:
            state.status, state.message = INTERRUPTED, f"by {str(error) or 'SIGINT'}"
            raise
        except BaseException as error:
            state.status, state.message = FAILED, f"{type(error).__name__}: {error}"
            state.traceback = traceback.format_exc()
            raise
        finally:
            folder.write_state(state)
    return state


def _loop(task: Task, state: State, start: Checkpoint | None, mirror: WandbMirror | None) -> None:
    config, plan = task.config, task.plan
    lengths = (0, 0) if start is None else start.lengths
    with ProgressView(task.console, epochs=plan.epochs, examples=plan.examples) as view:
        recorder = Recorder(task.folder, state, lengths, mirror=mirror, view=view)
        with closing(recorder):
            Loop(
                plan=plan,
                model=task.model,
                step=SgdStep(task.model, **config.optimizer),
                train=task.data[0],
                seed=config.seed,
                measurement=task.measurement,
                every=config.tracking.every,
                save_seconds=config.checkpoint.seconds,
                folder=task.folder,
                recorder=recorder,
                start=start,
                stop=task.stop,
            ).run()


def seeded_model(config: DictConfig) -> nn.Module:
    """The model with the weights of the run's seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.seed, Purpose.WEIGHTS))
        model = build(
            config.model,
            leave_out=("name",),
            shape=list(config.dataset.shape),
            classes=config.dataset.classes,
        )
    torch.manual_seed(torch_seed(config.seed, Purpose.MODEL))
    return model  # type: ignore[no-any-return]


def _mirror(config: DictConfig, folder: RunFolder, state: State) -> WandbMirror | None:
    mode = resolve_mode(config.tracking.mode.value)
    if mode == "disabled":
        return None
    mirror = WandbMirror(
        folder.path,
        identity=state.wandb["id"],
        name=f"{state.scheduler}-seed{state.seed}",
        group=state.scheduler,
        project=config.tracking.project,
        entity=config.tracking.entity,
        config=_container(config),
        top={key: getattr(state, key) for key in ("dataset", "model", "scheduler", "seed")},
        mode=mode,
    )
    state.wandb |= {"mode": mode, "url": mirror.url}
    return mirror


def _state(task: Task, overrides: Sequence[str], start: Checkpoint | None) -> State:
    """The state to begin with: where the checkpoint stands, and what earlier starts made known."""
    config, identity = task.config, run_id(task.config)
    state = State(
        status=RUNNING,
        run=identity,
        dataset=config.dataset.name,
        model=config.model.name,
        scheduler=config.scheduler.name,
        seed=config.seed,
        epochs=task.plan.epochs,
        steps=task.plan.total_steps,
        overrides=list(overrides),
        environment=environment(task.device),
        # the token keeps colleagues with the same run apart, and a run deleted there sendable
        wandb={"id": f"{identity}-{secrets.token_hex(3)}"},
    )
    if start is not None:
        state.epoch, state.step = start.position.epoch, start.position.step
        state.seconds, state.full_gradient_norm = start.seconds, start.lowest
    earlier = task.folder.read_state()
    if earlier is not None:
        state.wandb = earlier.wandb
        task.console.print(f"{earlier.status} earlier, going on from epoch {state.epoch}")
        for key in ("commit", "torch", "device", "threads", "machine", "cpu"):
            before, now = earlier.environment.get(key), state.environment[key]
            if before != now:
                task.console.print(f"note: {key} was {before}, is {now}: results may differ")
    return state


def _container(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _resolved(config: DictConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_container(config)))
