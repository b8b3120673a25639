"""Random number generators derived from the seed of a run, one for each purpose.

A generator is keyed by (seed, purpose, epoch) and never depends on earlier draws. Runs with the
same seed therefore start from the same weights and see the same permutations under every scheduler,
and a resumed run does not need any saved generator state.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """Purpose of a generator. The numbers are part of the key and must never change."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    CHUNKS = 3
    MODEL = 4


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """Return the NumPy generator for one purpose in one epoch."""
    return np.random.default_rng(_sequence(seed, purpose, epoch))


def permutation(seed: int, epoch: int, examples: int) -> npt.NDArray[np.int64]:
    """Return the order of the examples in ``epoch``, shape (examples,)."""
    return generator(seed, Purpose.ORDER, epoch).permutation(examples)


def torch_seed(seed: int, purpose: Purpose, epoch: int = 0, *more: int) -> int:
    """Return the seed of a torch generator for one purpose in one epoch.

    ``more`` extends the key, for example by the index of an example.
    """
    return int(_sequence(seed, purpose, epoch, *more).generate_state(1, np.uint64)[0]) >> 1


def _sequence(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))
