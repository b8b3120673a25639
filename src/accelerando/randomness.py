"""One seed gives everything random in a run, each thing from its own generator.

A generator is keyed by (seed, purpose, epoch), never by what was drawn before: the same seed under
two schedulers starts from the same weights and sees the same permutations, and a resumed run needs
no generator state.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What a generator is for; the numbers are part of every seed and never change."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    CHUNKS = 3
    MODEL = 4


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """NumPy generator for one purpose in one epoch."""
    return np.random.default_rng(_sequence(seed, purpose, epoch))


def permutation(seed: int, epoch: int, examples: int) -> npt.NDArray[np.int64]:
    """Order in which ``epoch`` uses its examples; the same for every scheduler."""
    return generator(seed, Purpose.ORDER, epoch).permutation(examples)


def torch_seed(seed: int, purpose: Purpose, epoch: int = 0, *more: int) -> int:
    """Seed of a torch generator for one purpose in one epoch, or for one example of it."""
    return int(_sequence(seed, purpose, epoch, *more).generate_state(1, np.uint64)[0]) >> 1


def _sequence(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))
