"""What cannot be measured is told in one line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from accelerando.measure import full_gradient
from test_full_gradient import data, float64_norm, make


def without_running() -> nn.Module:
    norm = nn.BatchNorm1d(64, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10))


def with_small_maps() -> nn.Module:
    """BatchNorm sees maps of one pixel."""
    return nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (make("none"), {"dtype": "float64"}, "dtype must be .* torch.float64, got 'float64'"),
        (make("none"), {"dtype": torch.int64}, "dtype must be .*, got torch.int64"),
        (make("none"), {"batch_norm": "published"}, "see published_gradient_norm"),
        (make("none").double(), {}, "images are torch.float32 and the model is torch.float64"),
        (without_running(), {"batch_norm": "running", "variance": True}, "couples the examples"),
        (without_running(), {"chunk": 1}, "make chunk larger"),
        (with_small_maps(), {"chunk": 1}, "make chunk larger"),
    ],
)
def test_it_says_what_to_do(model: nn.Module, settings: dict[str, Any], message: str) -> None:
    images, labels = data()
    with pytest.raises(ValueError, match=message) as caught:
        full_gradient(model, images, labels, **{"chunk": 20, **settings})
    assert "\n" not in str(caught.value)


def test_not_in_inference_mode() -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match="outside of it"):
        full_gradient(make("none"), *data())


def test_chunks_of_one_where_batch_norm_has_several_values_per_channel() -> None:
    images, labels = data()
    model = make("batch").train()
    norm, _ = float64_norm(model, [(images[i : i + 1], labels[i : i + 1]) for i in range(41)])
    assert full_gradient(model, images, labels, chunk=1).norm == pytest.approx(norm, rel=1e-5)
