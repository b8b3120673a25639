"""The sharpness: the largest eigenvalue of the Hessian, an estimate of the smoothness L."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure.untouched import untouched
