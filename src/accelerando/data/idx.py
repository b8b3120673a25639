"""The IDX format of MNIST and its kin: a header of big-endian numbers, then the values."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

START = bytes([0, 0, 8])
"""The third byte is the type of the values: 8 is unsigned bytes."""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Array of unsigned bytes in an IDX file, gzipped or not.

    The header is 0, 0, type, number of dimensions, then each length as four bytes
    (Yann LeCun's description of MNIST).

    Raises:
        ValueError: the file is not IDX, holds another type, or is cut short.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
    if len(content) < 4 or content[:3] != START or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: fetch it again")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise ValueError(
            f"{path} holds {values.size} values, its header says {np.prod(shape)}: fetch it again"
        )
    return values.reshape(shape)
