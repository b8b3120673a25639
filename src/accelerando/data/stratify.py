"""A part of a data set that stands for the whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stratified_indices(
    labels: npt.NDArray[np.int64], size: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Indices of ``size`` examples, each class in its proportion to within one.

    So have any stretch of them their classes.

    Args:
        labels: of all examples, shape (n,).
        size: from 1 to n.
        random: chooses among the examples of a class.
    """
    order = random.permutation(len(labels))
    names, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    quota = np.floor(exact).astype(int)
    # the largest remainders get what is left
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    chosen: list[npt.NDArray[np.int64]] = [
        order[labels[order] == name][:count] for name, count in zip(names, quota, strict=True)
    ]
    evenly = np.concatenate(
        [(np.arange(len(part)) + random.random()) / max(len(part), 1) for part in chosen]
    )
    return np.concatenate(chosen)[np.argsort(evenly)]
