"""What is added up over chunks, to the last digit."""

import numpy as np
import pytest
import torch

from accelerando.measure.streaming_moments import squared_norms


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_squared_norms_of_small_and_large_tensors(form: torch.memory_format) -> None:
    torch.manual_seed(0)
    made = [torch.randn(3, 5, 7, 11), torch.randn(11, 13, 31, 37), torch.randn(2, 70_001, 1, 1)]
    tensors = [t.to(memory_format=form) for t in made] + [torch.tensor(-3.0), torch.zeros(2, 0)]
    exact = [float((t.numpy().astype(np.float64) ** 2).sum()) for t in tensors]
    np.testing.assert_allclose(squared_norms(tensors).numpy(), exact, rtol=1e-12)
