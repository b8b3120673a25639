"""Decoded data on disk: made once, checked at every load, mapped so that processes share it.

A data set is a folder of ``.npy`` files and the checksums of them. It may be removed whenever no
run uses it.
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
from typing import Any

import numpy as np

from accelerando.data.source import Decoded
from accelerando.data.storage import (
    data_folder,
    one_at_a_time,
    publish,
    remove_leftovers,
    set_aside,
    sync,
    workspace,
)

FORMAT = 1
"""Raised when the same files come to be decoded to other arrays."""

FILES = tuple(f"{field.name}.npy" for field in fields(Decoded))
CHECKSUMS = "checksums.json"


def cached(name: str, key: Iterable[str], decode: Callable[[], Decoded]) -> Decoded:
    """The data that ``decode`` gives, from the cache where it has them.

    Processes that start at once on an empty cache, on one host or several, all get whole data and
    leave one copy. Where the cache cannot be used, the decoded data are used from memory, and one
    line on stderr says so.

    Args:
        name: of the data set; part of the folder's name.
        key: what the data depend on; another key is another copy.
        decode: makes the data; its errors are passed on.

    Returns:
        arrays mapped copy-on-write (torch warns of read-only memory): whoever writes into one
        changes this process's copy alone.
    """
    text = "\n".join((str(FORMAT), *key))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
    target = data_folder() / "decoded" / f"{name}-{digest}"
    decode_once = functools.cache(decode)
    try:
        return _shared(target, name, decode_once)
    except OSError as error:
        decoded = decode_once()  # raised the error itself, perhaps: then it raises it again
        print(
            f"{target.parent} cannot keep the decoded data ({error}): they are decoded at every "
            "start. Another place: ACCELERANDO_DATA=DIR",
            file=sys.stderr,
        )
        return Decoded(
            **{
                name: np.require(array, requirements=["C", "W"])
                for name, array in vars(decoded).items()
            }
        )


def _shared(target: Path, name: str, decode: Callable[[], Decoded]) -> Decoded:
    for folder in (data_folder(), target.parent):
        remove_leftovers(folder)
    kept = _opened(target)
    if kept is not None:
        return kept
    with one_at_a_time(target.parent / f".{name}.lock"):
        kept = _opened(target)  # by the process that was waited for
        if kept is None:
            _write(decode(), target)
            kept = _opened(target)
    if kept is None:
        raise OSError(f"{target} was written, and cannot be read back")
    return kept


def _opened(target: Path) -> Decoded | None:
    """The data in a folder, or None where there is none, or a damaged one.

    Raises:
        OSError: it cannot be read, or not be mapped.
    """
    try:
        judged = target.stat()
    except FileNotFoundError:
        return None
    try:
        if json.loads((target / CHECKSUMS).read_text()) != _checksums(target):
            raise ValueError("the checksums do not agree")
        return Decoded(**{Path(file).stem: _mapped(target / file) for file in FILES})
    except (FileNotFoundError, ValueError) as error:
        with suppress(FileNotFoundError):
            if target.stat().st_ino == judged.st_ino:  # else another process has mended it
                print(f"{target} is damaged ({error}): decoding anew", file=sys.stderr)
                set_aside(target)
        return None


def _write(decoded: Decoded, target: Path) -> None:
    with workspace(target.parent) as folder:
        for field in fields(Decoded):
            np.save(
                folder / f"{field.name}.npy", np.ascontiguousarray(getattr(decoded, field.name))
            )
        (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder), indent=1))
        for path in (*folder.iterdir(), folder):
            sync(path)
        publish(folder, target)
    sync(target.parent)


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of each file, 2 GB/s: it is there to find damage, not malice."""
    return {file: zlib.crc32(np.memmap(folder / file, mode="r").data) for file in FILES}


def _mapped(path: Path) -> Any:
    return np.asarray(np.load(path, mmap_mode="c"))  # plain: indexing np.memmap is slow
