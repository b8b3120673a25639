"""One run, from its settings to its last row."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from accelerando.config import build, check, run_folder, run_id, source_of
from accelerando.data.images import on_device
from accelerando.interruption import Interrupted
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
from accelerando.tracking.recorder import Recorder, View
from accelerando.tracking.wandb_mirror import WandbMirror, resolve_mode
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.device import commit, environment, prepare_device
from accelerando.training.loop import Diverged, Loop
from accelerando.training.step import SgdStep


def run(config: DictConfig, overrides: Sequence[str], console: Console) -> State:
    """Train one run, go on with it where it was interrupted, or find it finished.

    Args:
        config: the composed settings.
        overrides: the command line that made them, recorded so that it can be given again.
        console: where progress is shown.

    Raises:
        UsageError: a setting is out of range; nothing was trained.
        Interrupted: a signal asked to stop; the same command goes on from there.
    """
    plan = check(config)
    folder = RunFolder(run_folder(config))
    earlier = folder.read_state()
    if earlier is not None and earlier.status in ENDED:
        console.print(f"{earlier.status} already, nothing to do: {folder.path}{_other(earlier)}")
        return earlier
    device = prepare_device(config.hardware.device, config.hardware.threads)
    model = _model(config).to(device).train()
    folder.path.mkdir(parents=True, exist_ok=True)
    start = Checkpoint.load(folder.checkpoint, device)
    state = _state(config, plan, overrides, environment(device))
    if earlier is not None:
        state.wandb = earlier.wandb
        _say_resume(earlier, state, start, console)
    for note in plan.notes:
        console.print(f"note: {note}")
    write_whole(folder.config, _resolved(config).encode())
    folder.write_state(state)
    try:
        _train(config, plan, model, folder, state, start, device, console)
        state.status = FINISHED
    except Diverged as error:
        state.status, state.message = DIVERGED, str(error)
    except (Interrupted, KeyboardInterrupt) as error:
        state.status, state.message = INTERRUPTED, f"by {error or 'SIGINT'}"
        raise
    except BaseException as error:
        state.status, state.message = FAILED, f"{type(error).__name__}: {error}"
        state.traceback = traceback.format_exc()
        raise
    finally:
        folder.write_state(state)
    return state


def _train(
    config: DictConfig,
    plan: Plan,
    model: nn.Module,
    folder: RunFolder,
    state: State,
    start: Checkpoint | None,
    device: torch.device,
    console: Console,
) -> None:
    data = on_device(source_of(config).load(), device)
    with ExitStack() as stack:
        mirror = _mirror(config, folder, state)
        views: list[View] = [] if mirror is None else [mirror]
        view = ProgressView(console, epochs=plan.epochs, examples=plan.examples)
        views.append(stack.enter_context(view))
        lengths = (0, 0) if start is None else start.lengths
        recorder = Recorder(folder, state, lengths, views)
        stack.callback(recorder.close)
        try:
            Loop(
                plan=plan,
                model=model,
                step=SgdStep(model, **config.optimizer),
                data=data,
                seed=config.seed,
                chunk=config.measure.chunk,
                batch_norm=config.measure.batch_norm.value,
                every=config.tracking.every,
                save_seconds=config.checkpoint.seconds,
                folder=folder,
                recorder=recorder,
                start=start,
            ).run()
        except BaseException as error:
            _finish(mirror, DIVERGED if isinstance(error, Diverged) else FAILED)
            raise
        _finish(mirror, FINISHED)


def _model(config: DictConfig) -> nn.Module:
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
    state.wandb |= {"mode": mode, "files": str(mirror.files), "url": mirror.url}
    return mirror


def _finish(mirror: WandbMirror | None, status: str) -> None:
    if mirror is not None:
        mirror.finish(status)


def _state(
    config: DictConfig, plan: Plan, overrides: Sequence[str], environment: dict[str, Any]
) -> State:
    identity = run_id(config)
    return State(
        status=RUNNING,
        run=identity,
        dataset=config.dataset.name,
        model=config.model.name,
        scheduler=config.scheduler.name,
        seed=config.seed,
        epochs=plan.epochs,
        steps=plan.total_steps,
        overrides=list(overrides),
        environment=environment,
        # the token keeps colleagues with the same run apart, and a run deleted there sendable
        wandb={"id": f"{identity}-{secrets.token_hex(3)}"},
    )


def _say_resume(earlier: State, state: State, start: Checkpoint | None, console: Console) -> None:
    where = "the start" if start is None else f"epoch {start.position.epoch}"
    console.print(f"{earlier.status} earlier, going on from {where}{_other(earlier)}")
    for key in ("torch", "device", "threads", "machine", "cpu"):
        before, now = earlier.environment.get(key), state.environment[key]
        if before != now:
            console.print(f"note: {key} was {before}, is {now}: results may differ in rounding")


def _other(earlier: State) -> str:
    """A word where the code has changed since."""
    before, now = earlier.environment.get("commit"), commit()
    if before == now:
        return ""
    return f" (by code of {before}, this is {now}; remove the folder to run it anew)"


def _container(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _resolved(config: DictConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_container(config)))
