"""Several processes against one: gradients, measurements and whole runs, over gloo."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.measure import TensorExamples, evaluate, published_gradient_norm, split_into_chunks
from accelerando.measure.chunks import Chunks
from accelerando.measure.curvature import sharpness_over
from accelerando.measure.full_gradient import full_gradient_over
from accelerando.measure.subset import split_subset, subset_gradient
from accelerando.models import Cnn, Mlp
from accelerando.training.batch_norm import SyncBatchNorm2d, convert_sync_batch_norm
from accelerando.training.step import SgdStep
from helpers import forkserver

Part = Callable[[Team], Any]


def _member(part: Part, team: Team, file: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=team.rank, world_size=team.world_size
    )
    queue.put((team.rank, part(team)))
    dist.destroy_process_group()


def together(part: Part, world_size: int, folder: Path) -> list[Any]:
    """What ``part`` gives in each of ``world_size`` real processes, in the order of their ranks."""
    context = forkserver()
    queue = context.Queue()
    arguments = [
        (part, Team(rank, world_size), str(folder / "store"), queue) for rank in range(world_size)
    ]
    members = [context.Process(target=_member, args=each) for each in arguments]
    for member in members:
        member.start()
    results = dict(queue.get(timeout=120) for _ in members)
    for member in members:
        member.join()
    return [results[rank] for rank in range(world_size)]


def data(n: int = 41) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 4, 4, generator=random)
    return images, torch.randint(0, 3, (n,), generator=random)


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(3)
    return Mlp((1, 4, 4), 3, [6]) if kind == "mlp" else Cnn((1, 4, 4), 3, [4], kind)


def steps(team: Team, *, kind: str, size: int, synchronised: bool = False) -> dict[str, Any]:
    """Losses, weights and statistics after an epoch and a half, with momentum."""
    model, (images, labels) = model_of(kind), data()
    if synchronised:
        convert_sync_batch_norm(model)
    step = SgdStep(model, momentum=0.9, weight_decay=0.01, team=team)
    losses = []
    for offset in [*range(0, 41, size), *range(0, 20, size)]:
        x, y = images[offset : offset + size], labels[offset : offset + size]
        share = team.share(len(y))
        losses.append(step(x[share], y[share], 0.1, len(y)).item())
    return {"losses": losses, **{k: v.numpy() for k, v in model.state_dict().items()}}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("size", [8, 7, 5, 2])
def test_a_step_of_a_team_is_a_step(world_size: int, size: int, tmp_path: Path) -> None:
    part = partial(steps, kind="mlp", size=size)
    alone = part(SINGLE_PROCESS)
    for found in together(part, world_size, tmp_path):
        for name, value in alone.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [8, 7, 2])
def test_synchronised_batch_norm_is_that_of_the_whole_batch(size: int, tmp_path: Path) -> None:
    alone = steps(SINGLE_PROCESS, kind="batch", size=size)
    part = partial(steps, kind="batch", size=size, synchronised=True)
    for found in together(part, 3, tmp_path):
        for name, value in alone.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_batch_norm_of_a_share_is_something_else(tmp_path: Path) -> None:
    alone = steps(SINGLE_PROCESS, kind="batch", size=8)
    found = together(partial(steps, kind="batch", size=8), 2, tmp_path)
    assert abs(np.subtract(found[0]["losses"], alone["losses"])).max() > 1e-3


def test_synchronising_keeps_weights_statistics_and_names() -> None:
    model = nn.Sequential(model_of("batch"), nn.Sequential(nn.BatchNorm2d(3)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert_sync_batch_norm(model)
    assert sum(isinstance(m, SyncBatchNorm2d) for m in model.modules()) == 2
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())


def measured(team: Team, *, kind: str, chunk: int) -> dict[str, float]:
    """Every measurement, of a model and data fixed here."""
    model, examples = model_of(kind), TensorExamples(*data())
    order = torch.randperm(41, generator=torch.Generator().manual_seed(1))
    chunks = split_into_chunks(examples, chunk, order=order, team=team)
    wanted = {"variance": kind != "batch", "per_layer": True, "dtype": torch.float64}
    full = full_gradient_over(model, chunks, **wanted)
    found = {name: value for name, value in vars(full).items() if isinstance(value, float)}
    assert full.per_layer is not None
    found |= full.per_layer | evaluate(model, chunks)._asdict()
    found["sharpness"] = sharpness_over(model, chunks, tolerance=1e-6)
    batches = Chunks(examples, torch.split(order, 7), team)
    found["published"] = published_gradient_norm(model, batches)
    subset = Chunks(examples, split_subset(order[:30], 512, classes=3, coupled=False), team)
    found |= {
        f"subset {name}": value
        for name, value in subset_gradient(model, subset, examples=41)._asdict().items()
    }
    return found


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(("kind", "chunk"), [("mlp", 7), ("mlp", 21), ("batch", 9), ("batch", 41)])
def test_a_team_measures_what_one_process_does(
    world_size: int, kind: str, chunk: int, tmp_path: Path
) -> None:
    """With 21 examples a chunk there are two chunks: of three processes one has none."""
    part = partial(measured, kind=kind, chunk=chunk)
    alone = part(SINGLE_PROCESS)
    for found in together(part, world_size, tmp_path):
        if "variance_error" in alone:  # of other contrasts of the same chunks
            error = found.pop("variance_error")
            assert error == pytest.approx(alone["variance_error"], rel=0.5, nan_ok=True)
        assert found == pytest.approx({n: alone[n] for n in found}, rel=1e-5, abs=1e-9)


def in_float32(team: Team, *, kind: str) -> dict[str, float]:
    chunks = split_into_chunks(TensorExamples(*data()), 9, team=team)
    full = full_gradient_over(model_of(kind), chunks, variance=kind != "batch")
    found = {"norm": full.norm, "loss": full.loss, "accuracy": full.accuracy}
    return found | ({} if full.variance is None else {"variance": full.variance})


@pytest.mark.parametrize("kind", ["mlp", "batch"])
def test_a_team_measures_the_same_in_float32(kind: str, tmp_path: Path) -> None:
    part = partial(in_float32, kind=kind)
    for found in together(part, 3, tmp_path):
        assert found == pytest.approx(part(SINGLE_PROCESS), rel=1e-5)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 41])
def test_shares_are_those_of_numpy(world_size: int, count: int) -> None:
    things = np.arange(count)
    for rank, expected in enumerate(np.array_split(things, world_size)):
        assert things[Team(rank, world_size).share(count)].tolist() == expected.tolist()
