"""Precision, memory format and compilation change a step only by their rounding."""

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
from helpers import SHORT, read_rows, train

Settings = Callable[..., RunSettings]


def random_batch(n: int = 40) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 8, 8, generator=random)
    return images, torch.randint(0, 3, (n,), generator=random)


def small_model() -> nn.Module:
    torch.manual_seed(2)
    return Cnn((3, 8, 8), 3, [8, 8], "batch")


def flat_gradient(step: SgdStep, n: int = 40) -> Tensor:
    gradients, _ = step.gradients(*random_batch(n), n)
    return torch.cat([g.flatten() for g in gradients])


def record_of(config: RunSettings) -> list[dict[str, float]]:
    return read_rows(RunFolder(run_folder(config)).record)


def test_bf16_equals_autocast_and_approximates_fp32() -> None:
    model, (images, labels) = small_model(), random_batch()
    exact = flat_gradient(SgdStep(model))
    gradient = flat_gradient(SgdStep(model, precision="bf16"))
    assert gradient.dtype == torch.float32
    error = float((gradient - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.15
    reference = small_model()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(reference(images), labels)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert float((gradient - expected).norm() / expected.norm()) < 2e-3
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_growing_batch_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(
        precision.torch, "compile", lambda module: compile_(module, backend=backend)
    )
    torch.compiler.reset()
    model = small_model()
    compiled, eager = SgdStep(model, compiled=True), SgdStep(model)
    for n in (8, 16, 5, 32, 64, 3, 128, 100):
        torch.testing.assert_close(
            flat_gradient(compiled, n), flat_gradient(eager, n), rtol=1e-4, atol=1e-6
        )
    assert len(graphs) == 1


def test_compilation_without_a_compiler_is_rejected_in_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/g++",))
    torch.compiler.reset()
    config = settings(*SHORT, "hardware.compile=true")
    with pytest.raises(
        UsageError, match=r"^hardware\.compile=true cannot .* install a C\+\+"
    ) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not run_folder(config).exists()


def test_channels_last_is_the_same_run_up_to_rounding(settings: Settings) -> None:
    contiguous = settings(*SHORT, "model=cnn_bn")
    channels_last = settings(
        *SHORT, "model=cnn_bn", "hardware.channels_last=true", f"root={contiguous.root}/other"
    )
    assert run_folder(channels_last).name == run_folder(contiguous).name
    for config in (contiguous, channels_last):
        train(config)
    rows, others = record_of(channels_last), record_of(contiguous)
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=2e-2, abs=1e-2)
    assert rows[0]["full_gradient_norm"] == pytest.approx(others[0]["full_gradient_norm"], rel=1e-5)


def test_a_bf16_run_is_measured_in_float32(settings: Settings) -> None:
    bf16, fp32 = settings(*SHORT, "precision=bf16"), settings(*SHORT)
    for config in (bf16, fp32):
        train(config)
    rows, exact_rows = record_of(bf16), record_of(fp32)
    assert rows[0]["full_gradient_norm"] == exact_rows[0]["full_gradient_norm"]
    assert rows[-1]["empirical_loss"] != exact_rows[-1]["empirical_loss"]
    assert rows[-1]["empirical_loss"] == pytest.approx(exact_rows[-1]["empirical_loss"], rel=0.1)


def test_a_bfloat16_measurement_is_recorded_as_approximate(settings: Settings) -> None:
    rough, exact = settings(*SHORT, "measure.dtype=bfloat16"), settings(*SHORT)
    output = io.StringIO()
    state = run(rough, [], Console(file=output, width=200))
    train(exact)
    assert state is not None
    assert "gradient" in output.getvalue()
    assert "nan" not in output.getvalue()
    ((_, reason),) = completed_runs(load_runs([Path(rough.root)]).runs)[1]
    assert reason == "measured no exact norm (subset or bfloat16)"
    assert state.full_gradient_norm is None
    row, exact_row = record_of(rough)[0], record_of(exact)[0]
    assert "full_gradient_norm" not in row
    assert row["approximate_gradient_norm"] != exact_row["full_gradient_norm"]
    assert row["approximate_gradient_norm"] == pytest.approx(
        exact_row["full_gradient_norm"], rel=0.02
    )


def test_a_bfloat16_gradient_norm_approximates_the_exact_one() -> None:
    model, (images, labels) = small_model(), random_batch()
    result = full_gradient(model, images, labels, dtype=torch.bfloat16)
    assert result.norm == pytest.approx(full_gradient(model, images, labels).norm, rel=0.05)


def test_tf32_is_rejected_on_a_cpu(settings: Settings) -> None:
    with pytest.raises(UsageError, match="precision=tf32 needs an NVIDIA GPU, got device cpu"):
        train(settings(*SHORT, "precision=tf32"))


def test_tf32_is_allowed_only_inside_a_step() -> None:
    flags = torch.backends.cuda.matmul
    assert not flags.allow_tf32
    with precision.matmul_precision("tf32"):
        assert flags.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert not flags.allow_tf32
