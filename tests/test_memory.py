"""Batches that do not fit into memory are rejected before the run."""

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
from accelerando.identity import run_folder
from accelerando.models import Cnn
from accelerando.training import memory
from accelerando.training.step import SgdStep
from accelerando.training.task import prepare_task
from helpers import SHORT, train

Settings = Callable[..., RunSettings]
GROWING = (*SHORT, "scheduler.batch_size.final=1437", "model=cnn")


def test_a_batch_that_does_not_fit_is_rejected_before_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    config = settings(*GROWING)
    with pytest.raises(UsageError, match=r"batch of 1437 examples.*hardware\.micro_batch=718"):
        train(config)
    assert not run_folder(config).exists()


def test_a_measurement_that_does_not_fit_is_rejected_before_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    config = settings(*GROWING, "hardware.micro_batch=64")
    with pytest.raises(UsageError, match=r"^the memory of cpu is .*measure\.chunk=256"):
        train(config)
    assert not run_folder(config).exists()
    small_chunk = (*GROWING, "hardware.micro_batch=64", "measure.chunk=64")
    published = settings(*small_chunk, "measure.published=true")
    with pytest.raises(UsageError, match=r"^the memory of cpu .* batches of up to 1437 .* without"):
        train(published)
    assert not run_folder(published).exists()
    assert train(settings(*small_chunk)).status == "finished"


def saved_bytes(step: SgdStep, images: torch.Tensor, labels: torch.Tensor) -> int:
    """What a pass really saves for its backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step.gradients(images, labels, len(labels))
    return sum(sizes.values())


@pytest.mark.parametrize("processes", [1, 2])
def test_memory_is_extrapolated_from_small_batches(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Cnn((1, 8, 8), 10, [16, 32], "batch").train()
    step, batch_size = SgdStep(model), 1437
    images, labels = torch.randn(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    needed = processes * saved_bytes(
        step, images.expand(batch_size, 1, 8, 8).clone(), labels.expand(batch_size).clone()
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()

    def check() -> None:
        memory.check_memory(
            model,
            lambda x, y: step.gradients(x, y, len(y)),
            (images, labels),
            batch_size=batch_size,
            micro_batch=None,
            chunk=1,
            processes=processes,
        )

    monkeypatch.setattr(memory, "available_memory", lambda: int(1.5 * needed))
    check()
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.1 * needed))
    with pytest.raises(UsageError, match="the schedule's largest batch of 1437 examples does not"):
        check()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random_state, torch.get_rng_state())


def test_processes_of_a_run_share_the_memory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        "accelerando.training.task.check_memory",
        lambda *_, **named: calls.append((named["batch_size"], named["processes"])),
    )
    for processes in (1, 3):
        config = settings(*GROWING, f"hardware.processes={processes}")
        prepare_task(config, build_plan(config)).check_memory()
    assert calls == [(1437, 1), (479, 3)]


def test_available_memory_is_at_most_that_of_the_machine() -> None:
    available = memory.available_memory()
    assert available is not None
    assert 0 < available <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_available_memory_respects_all_enclosing_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    for folder, limit in ((job, "5000"), (job.parent, "max"), (tmp_path, "9000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("3000\n")
        (folder / "memory.stat").write_text("anon 2000\ninactive_file 1000\n")
    (tmp_path / "membership").write_text("0::/slurm/job\n")
    assert memory._cgroup_headroom(tmp_path / "membership", tmp_path) == [3000, 7000]
    monkeypatch.setattr(memory, "_cgroup_headroom", lambda: [3000, 7000])
    assert memory.available_memory() == 3000
