"""Reading pickled arrays of bytes without running what a pickle may contain."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class PickledArray:
    """Stands in for ``numpy.ndarray`` while a pickle is read; ``values`` is what it held.

    NumPy's own classes are not given to the pickle: ``numpy.ndarray`` lets its caller forge
    pointers to objects out of bytes.
    """

    def __init__(self, *what_numpy_is_told: Any) -> None:
        self.values: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], PickledType, bool, bytes]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, PickledType) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array of something else than bytes")
        values = np.frombuffer(content, np.uint8)
        self.values = values.reshape(shape, order="F" if fortran else "C")


class PickledType:
    """Stands in for ``numpy.dtype``; unsigned bytes are the only one allowed."""

    def __init__(self, name: str | bytes, *alignment: Any) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"it holds an array of {name!r}")

    def __setstate__(self, state: Any) -> None:
        pass


def _encode(text: str, _encoding: str) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    return text.encode("latin-1")


_ALLOWED = {
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledType,
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def read_pickle(path: Path) -> dict[Any, Any]:
    """A dictionary of plain values and ``PickledArray``, its strings from Python 2 as bytes.

    Raises:
        ValueError: the file is damaged, or asks for anything else.
    """
    pickled = io.BytesIO(path.read_bytes())
    try:
        content = _Unpickler(pickled, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(
            f"{path} is not the pickled images it should be ({error}): fetch it again"
        ) from error
    return content
