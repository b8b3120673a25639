"""Precision, order in memory and compilation: the same step, to the rounding that they have."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.checks import UsageError
from accelerando.compare.filtering import completed_runs
from accelerando.compare.load import load_runs
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.measure import full_gradient
from accelerando.models import Cnn
from accelerando.runs.folder import RunFolder
from accelerando.training import precision
from accelerando.training.run import run
from accelerando.training.step import SgdStep
from test_run import SHORT, lines, train

Settings = Callable[..., RunSettings]


def data(n: int = 40) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 8, 8, generator=random)
    return images, torch.randint(0, 3, (n,), generator=random)


def model() -> nn.Module:
    torch.manual_seed(2)
    return Cnn((3, 8, 8), 3, [8, 8], "batch")


def gradients(step: SgdStep, n: int = 40) -> Tensor:
    found, _ = step.gradients(*data(n), n)
    return torch.cat([g.flatten() for g in found])


def test_bf16_is_that_of_autocast_and_near_fp32() -> None:
    network, (images, labels) = model(), data()
    exact = gradients(SgdStep(network))
    found = gradients(SgdStep(network, precision="bf16"))
    assert found.dtype == torch.float32
    error = float((found - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.15
    reference = model()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(reference(images), labels)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert float((found - expected).norm() / expected.norm()) < 2e-3
    assert all(p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("size", [1, 7, 40, 64])
def test_micro_batches_add_up(size: int) -> None:
    torch.manual_seed(2)
    network = Cnn((3, 8, 8), 3, [8, 8])
    whole = SgdStep(network).gradients(*data(), 40)
    parts = SgdStep(network, micro_batch=size).gradients(*data(), 40)
    assert float(parts[1]) == pytest.approx(float(whole[1]), rel=1e-6)
    for a, b in zip(parts[0], whole[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_a_growing_batch_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(
        precision.torch, "compile", lambda module: compile_(module, backend=backend)
    )
    torch.compiler.reset()
    network = model()
    step, plain = SgdStep(network, compiled=True), SgdStep(network)
    for n in (8, 16, 5, 32, 64, 3, 128, 100):
        torch.testing.assert_close(gradients(step, n), gradients(plain, n), rtol=1e-4, atol=1e-6)
    assert len(compiled) == 1


def test_compilation_without_a_compiler_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/g++",))
    torch.compiler.reset()
    config = settings(*SHORT, "hardware.compile=true")
    with pytest.raises(
        UsageError, match=r"^hardware\.compile=true cannot .* install a C\+\+"
    ) as it:
        train(config)
    assert "\n" not in str(it.value)
    assert not run_folder(config).exists()


def test_channels_last_is_the_same_run_to_rounding(settings: Settings) -> None:
    more = (*SHORT, "model=cnn_bn", "hardware.channels_last=true")
    plain = settings(*SHORT, "model=cnn_bn", "root=${oc.env:TMPDIR,/tmp}/never")
    config = settings(*more)
    assert run_folder(config).name == run_folder(plain).name
    train(config)
    rows = lines(RunFolder(run_folder(config)).record)
    other = settings(*SHORT, "model=cnn_bn", f"root={config.root}/plain")
    train(other)
    for a, b in zip(rows, lines(RunFolder(run_folder(other)).record), strict=True):
        assert a == pytest.approx(b, rel=2e-2, abs=1e-2)
    assert rows[0]["full_gradient_norm"] == pytest.approx(
        lines(RunFolder(run_folder(other)).record)[0]["full_gradient_norm"], rel=1e-5
    )


def test_a_bf16_run_is_measured_exactly(settings: Settings) -> None:
    config, exact = settings(*SHORT, "precision=bf16"), settings(*SHORT)
    for each in (config, exact):
        train(each)
    rough, fine = (lines(RunFolder(run_folder(each)).record) for each in (config, exact))
    assert rough[0]["full_gradient_norm"] == fine[0]["full_gradient_norm"]
    assert rough[-1]["empirical_loss"] != fine[-1]["empirical_loss"]
    assert rough[-1]["empirical_loss"] == pytest.approx(fine[-1]["empirical_loss"], rel=0.1)


def test_a_rough_measurement_is_called_approximate(settings: Settings) -> None:
    config, exact = settings(*SHORT, "measure.dtype=bfloat16"), settings(*SHORT)
    shown = io.StringIO()
    state = run(config, [], Console(file=shown, width=200))
    train(exact)
    assert state is not None
    assert "gradient" in shown.getvalue()
    assert "nan" not in shown.getvalue()
    ((_, reason),) = completed_runs(load_runs([Path(config.root)]).runs)[1]
    assert reason == "measured no exact norm (subset or bfloat16)"
    rough, fine = (lines(RunFolder(run_folder(each)).record) for each in (config, exact))
    assert state.full_gradient_norm is None
    assert "full_gradient_norm" not in rough[0]
    assert rough[0]["approximate_gradient_norm"] != fine[0]["full_gradient_norm"]
    assert rough[0]["approximate_gradient_norm"] == pytest.approx(
        fine[0]["full_gradient_norm"], rel=0.02
    )
    network, (images, labels) = model(), data()
    found = full_gradient(network, images, labels, dtype=torch.bfloat16)
    assert found.norm == pytest.approx(full_gradient(network, images, labels).norm, rel=0.05)


def test_tf32_is_refused_on_a_cpu(settings: Settings) -> None:
    with pytest.raises(UsageError, match="precision=tf32 is arithmetic of NVIDIA GPUs"):
        train(settings(*SHORT, "precision=tf32"))


def test_tf32_holds_in_a_step_alone() -> None:
    flags = torch.backends.cuda.matmul
    assert not flags.allow_tf32
    with precision.matmul_precision("tf32"):
        assert flags.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert not flags.allow_tf32
