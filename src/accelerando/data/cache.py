"""Cache of decoded data sets: written once, verified on every load, memory-mapped by all processes.

Each entry is a folder of ``.npy`` files and their checksums. It can be deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np

from accelerando.atomic_write import fsync_path
from accelerando.data.source import LabelledImages
from accelerando.data.storage import (
    data_folder,
    exclusive_lock,
    publish,
    quarantine,
    remove_leftovers,
    temporary_folder,
)

FORMAT = 1
"""Increment if the same source files start to decode to different arrays."""

FILES = tuple(f"{field.name}.npy" for field in fields(LabelledImages))
CHECKSUMS = "checksums.json"


def load_cached(
    name: str, key: Iterable[str], decode: Callable[[], LabelledImages]
) -> LabelledImages:
    """Load a decoded data set from the cache; on a miss, decode and store it.

    Concurrent processes, on one or several hosts, all receive complete data and leave a single
    entry. If the cache cannot be used, the data are decoded into memory and a line is printed to
    stderr.

    Args:
        name: name of the data set, part of the entry's folder name.
        key: everything that determines the data; each key has its own entry.
        decode: decodes the data set; its exceptions propagate.

    Returns:
        Arrays mapped copy-on-write: writing to them changes only this process's copy. (For
        read-only memory torch would emit a warning.)
    """
    text = "\n".join((str(FORMAT), *key))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
    entry = data_folder() / "decoded" / f"{name}-{digest}"
    decode_once = functools.cache(decode)
    try:
        return _load_or_store(entry, name, decode_once)
    except OSError as error:
        images = decode_once()  # raises again if the error came from decoding
        print(
            f"cannot cache decoded data in {entry.parent} ({error}): decoding at every start; "
            "set ACCELERANDO_DATA=DIR to a writable folder",
            file=sys.stderr,
        )
        arrays = (np.require(array, requirements=["C", "W"]) for array in vars(images).values())
        return LabelledImages(*arrays)


def _load_or_store(entry: Path, name: str, decode: Callable[[], LabelledImages]) -> LabelledImages:
    for folder in (data_folder(), entry.parent):
        remove_leftovers(folder)
    images = _load(entry)
    if images is None:
        with exclusive_lock(entry.parent / f".{name}.lock"):
            images = _load(entry)  # another process may have stored it meanwhile
            if images is None:
                _store(decode(), entry)
                images = _load(entry)
    if images is None:
        raise OSError(f"{entry} was written but cannot be read back")
    return images


def _load(entry: Path) -> LabelledImages | None:
    """Map an entry; return None if it does not exist or is corrupt."""
    try:
        inode = entry.stat().st_ino
    except FileNotFoundError:
        return None
    try:
        if json.loads((entry / CHECKSUMS).read_text()) != _checksums(entry):
            raise ValueError("checksum mismatch")
        # as an ndarray, because indexing a memmap is slower
        arrays = (np.asarray(np.load(entry / file, mmap_mode="c")) for file in FILES)
        return LabelledImages(*arrays)
    except (FileNotFoundError, ValueError) as error:
        with suppress(FileNotFoundError):
            if entry.stat().st_ino == inode:  # else another process has replaced it
                print(f"{entry} is corrupt ({error}): decoding again", file=sys.stderr)
                quarantine(entry)
        return None


def _store(images: LabelledImages, entry: Path) -> None:
    with temporary_folder(entry.parent) as folder:
        for file in FILES:
            np.save(folder / file, np.ascontiguousarray(getattr(images, Path(file).stem)))
        (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder), indent=1))
        for path in (*folder.iterdir(), folder):
            fsync_path(path)
        publish(folder, entry)
    fsync_path(entry.parent)


def _checksums(folder: Path) -> dict[str, int]:
    """Return the CRC-32 of each file: fast (2 GB/s), and detects corruption but not tampering."""
    return {file: zlib.crc32(np.memmap(folder / file, mode="r").data) for file in FILES}
