"""Batches that do not fit: said before a run begins, and survived where they come up in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import SINGLE_PROCESS
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training import measurement, memory
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.step import SgdStep
from accelerando.training.task import prepare_task
from test_run import SHORT, same, train

Settings = Callable[..., RunSettings]
GROWING = (*SHORT, "scheduler.batch_size.final=1437", "model=cnn_bn")
EASY = (*SHORT, "scheduler.batch_size.final=1437", "model=cnn")


def test_a_batch_that_does_not_fit_is_refused_before_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    config = settings(*EASY)
    with pytest.raises(UsageError, match=r"a batch of 1437 examples.*hardware\.micro_batch=718"):
        train(config)
    assert not run_folder(config).exists()
    small = settings(*EASY, "hardware.micro_batch=64")
    with pytest.raises(UsageError, match=r"^the memory of cpu is .*measure\.chunk=256"):
        train(small)
    assert not run_folder(small).exists()
    less = (*EASY, "hardware.micro_batch=64", "measure.chunk=64")
    published = settings(*less, "measure.published=true")
    with pytest.raises(UsageError, match=r"^the memory of cpu .* batches of up to 1437 .* without"):
        train(published)
    assert not run_folder(published).exists()
    assert train(settings(*less)).status == "finished"


def test_what_a_batch_needs_is_estimated_from_small_ones(settings: Settings) -> None:
    """Against what a pass keeps for its backward at the full size."""
    config = settings(*EASY)
    task = prepare_task(config, build_plan(config))
    step = task.step(SINGLE_PROCESS, compiled=False)
    (example,) = task.data[0].read([slice(0, 1)])
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        memory.trial(task.model, step, example, 1437)
    needed = sum(kept.values())
    for room, fits in ((needed * 1.5, True), (needed * 1.1, False)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(memory, "available_memory", lambda room=room: int(room))
            assert memory._fits_main_memory(task.model, step, example, 1437, 1) is fits
            assert not memory._fits_main_memory(task.model, step, example, 1437, 2)
    after = task.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[..] can't allocate memory: x")],
)
def test_out_of_memory_in_training_saves_and_the_run_goes_on(
    error: Exception, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = settings(*EASY, f"root={tmp_path}/whole"), settings(*EASY)
    train(whole)
    gradients = SgdStep.gradients

    def fails(self: SgdStep, images: Any, labels: Any, count: int) -> Any:
        if len(labels) > 700:
            raise error
        return gradients(self, images, labels, count)

    with monkeypatch.context() as patched:
        patched.setattr(SgdStep, "gradients", fails)
        patched.setattr(memory, "_fits_main_memory", lambda *_: True)
        with pytest.raises(
            UsageError, match=r"out of memory in epoch 2 on cpu; the run is saved .* set hard"
        ):
            train(broken)
    folder = RunFolder(run_folder(broken))
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.epoch) == ("failed", 2)
    assert "in fails" in state.traceback
    assert train(broken).status == "finished"
    assert same(folder, RunFolder(run_folder(whole)))


def test_a_measurement_that_does_not_fit_is_told_from_a_batch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no more")

    config = settings(*EASY)
    words = r"out of memory in epoch 0 on cpu; .* another run with measure\.chunk=256, or less"
    with monkeypatch.context() as patched, pytest.raises(UsageError, match=words):
        patched.setattr(measurement, "full_gradient_over", fails)
        train(config)
    assert train(config).status == "finished"


def test_of_the_published_way_it_is_told_that_batches_are_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no more")

    config = settings(*EASY, "measure.published=true", "hardware.micro_batch=64")
    words = r"out of memory in epoch 0 on cpu; .* measure\.published goes through whole batches"
    monkeypatch.setattr(measurement, "published_gradient_norm", fails)
    with pytest.raises(UsageError, match=words):
        train(config)


def test_half_a_step_of_batch_norm_is_undone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = settings(*GROWING, f"root={tmp_path}/whole"), settings(*GROWING)
    train(whole)
    forward, calls = torch.nn.BatchNorm2d.forward, iter(range(1000))

    def fails(self: Any, images: Any) -> Any:
        result = forward(self, images)
        if self.training and next(calls) == 64:
            raise torch.OutOfMemoryError("no more")
        return result

    words = "go on with it on a device with more memory; or begin another run"
    with monkeypatch.context() as patched, pytest.raises(UsageError, match=words):
        patched.setattr(torch.nn.BatchNorm2d, "forward", fails)
        train(broken)
    saved = Checkpoint.load(RunFolder(run_folder(broken)), torch.device("cpu"), print)
    assert saved is not None
    assert saved.position.step == 24
    train(broken)
    assert same(*(RunFolder(run_folder(config)) for config in (broken, whole)))


def test_statistics_are_kept_by_one_copy_for_each_type(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = torch._foreach_copy_, []

    def counted(into: list[torch.Tensor], tensors: list[torch.Tensor]) -> None:
        copied.append([t.dtype for t in tensors])
        copy(into, tensors)

    monkeypatch.setattr(torch, "_foreach_copy_", counted)
    config = settings(*GROWING, "epochs=1")
    train(config)
    # two layers: mean and variance of each, then its count of batches
    step = [[torch.float32] * 4, [torch.int64] * 2]
    assert copied == step * build_plan(config).total_steps


def test_the_memory_that_is_left_is_that_of_the_machine_or_less() -> None:
    found = memory.available_memory()
    assert found is not None
    assert 0 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_memory_that_is_left_is_that_of_every_cgroup_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    for folder, limit in ((job, "5000"), (job.parent, "max"), (tmp_path, "9000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("3000\n")
        (folder / "memory.stat").write_text("anon 2000\ninactive_file 1000\n")
    (tmp_path / "mine").write_text("0::/slurm/job\n")
    assert memory._cgroup_rooms(tmp_path / "mine", tmp_path) == [3000, 7000]
    monkeypatch.setattr(memory, "_cgroup_rooms", lambda: [3000, 7000])
    assert memory.available_memory() == 3000


def test_processes_share_the_memory_that_is_left(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(
        "accelerando.training.task.check_memory",
        lambda *all_, beside: found.append((all_[3], beside)),
    )
    for processes in (1, 3):
        config = settings(*EASY, f"hardware.processes={processes}")
        prepare_task(config, build_plan(config)).check_memory()
    assert found == [(1437, 1), (479, 3)]
