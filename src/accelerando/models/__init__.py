"""Models: one family per file, plain modules."""

from accelerando.models.cnn import Cnn
from accelerando.models.mlp import Mlp

__all__ = ["Cnn", "Mlp"]
