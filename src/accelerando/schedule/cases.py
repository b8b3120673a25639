"""The paper's four cases: what they are called, and what they are made of."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One of them.

    Args:
        number: the paper's.
        words: what batch and rate do.
        batch_size: the class of its shape.
        learning_rates: the classes that the paper has in it, the usual one first.
    """

    number: str
    words: str
    batch_size: str
    learning_rates: tuple[str, ...]

    @property
    def label(self) -> str:
        """What figures call it."""
        return f"({self.number}) {self.words}"


_DECAYS = ("Cosine", "Constant", "InverseSqrt", "Linear", "Polynomial")

CASES = {
    "decay_constant": Case("i", "constant batch, decaying rate", "ConstantBatch", _DECAYS),
    "decay_increase": Case("ii", "increasing batch, decaying rate", "ExponentialBatch", _DECAYS),
    "increase_increase": Case(
        "iii", "increasing batch, increasing rate", "ExponentialBatch", ("Exponential",)
    ),
    "warmup_increase": Case(
        "iv",
        "increasing batch, warm-up rate",
        "ExponentialBatch",
        ("WarmupConstant", "WarmupCosine"),
    ),
}
"""By the scheduler's name. The paper finds that each minimises the full gradient norm faster than
the one before it; other shapes may be put into a scheduler of that name."""
