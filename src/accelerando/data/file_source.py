"""Base class of data sets in files: find them or download them, then decode them into the cache."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.error import HTTPError

from accelerando.data.cache import load_cached
from accelerando.data.source import Arrays, LabelledImages, build_arrays
from accelerando.data.storage import data_folder, exclusive_lock, publish, temporary_folder

RESPONSE_TIMEOUT = 5.0
"""Seconds within which a server must respond before a download starts."""
STALL_TIMEOUT = 30.0
"""Seconds without data after which a download is aborted."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A data set in files; subclasses name the files and decode them, or override ``load``.

    Args:
        examples: number of training examples; a smaller number than available selects a subset.
        shape: channels, height, width.
        classes: number of labels.
        mean: mean of each channel of the training images, as a fraction of the largest pixel
            value, 255.
        std: standard deviation of each channel, likewise.
        folder: folder of the files. If None, they are looked up where a system package installs
            them, then in the data folder, and otherwise downloaded to the data folder.
    """

    NAME: ClassVar[str]
    URL: ClassVar[str] = ""
    """Address of the archive, or of the folder of the files; empty if it cannot be downloaded."""
    MD5: ClassVar[str] = ""
    """Checksum of the archive."""
    HOME: ClassVar[str]
    """Folder of the files, relative to the data folder."""
    FILES: ClassVar[tuple[str, ...]]
    """Files and folders that must exist."""
    HOW_TO_OBTAIN: ClassVar[str] = ""
    """How to obtain the files otherwise, for the error message."""
    INSTALLED: ClassVar[Path | None] = None
    """Where a system package installs them."""

    examples: int
    shape: Sequence[int]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    folder: str | None = None

    def prepare(self) -> None:
        """Find the files or download them.

        Raises:
            FileNotFoundError: data not available; the message explains how to obtain them.
        """
        self._find()

    def load(self) -> Arrays:
        """Load the data set, from the cache if it was decoded before.

        Raises:
            FileNotFoundError: data not available; the message explains how to obtain them.
            ValueError: a file is corrupt, or the data contradict the settings.
        """
        folder = self._find().resolve()
        name = self.HOME.split("/")[0].lower()
        images = load_cached(name, self._cache_key(folder), lambda: self._decode(folder))
        mean, std = ([255 * value for value in values] for values in (self.mean, self.std))
        return build_arrays(images, self, mean=mean, std=std)

    def _decode(self, folder: Path) -> LabelledImages:
        """Read the files into memory."""
        raise NotImplementedError

    def _fetch(self, folder: Path) -> Path:
        """Download and unpack into ``folder``; return the folder that contains the files."""
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(self.URL, str(folder), md5=self.MD5)
        return folder / self.HOME

    def _path(self, folder: Path, name: str) -> Path | None:
        """Return the path of a file or folder, None if it does not exist."""
        path = folder / name
        return path if path.exists() else None

    def _files(self, folder: Path) -> Iterable[Path]:
        """Return the files to decode."""
        return (path for name in self.FILES if (path := self._path(folder, name)))

    def _cache_key(self, folder: Path) -> Iterable[str]:
        """Return lines that change whenever the files do."""
        for path in self._files(folder):
            status = path.stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}"

    def _missing(self, folder: Path) -> list[str]:
        return [name for name in self.FILES if self._path(folder, name) is None]

    def _find(self) -> Path:
        if self.folder is not None:
            folder = Path(self.folder).expanduser()
            for place in (folder, folder / self.HOME):  # torchvision's root contains HOME
                if not self._missing(place):
                    return place
            raise self._unavailable(folder)
        if self.INSTALLED is not None and not self._missing(self.INSTALLED):
            return self.INSTALLED
        home = data_folder() / self.HOME
        if self._missing(home):
            if not self.URL:
                raise self._unavailable(home)
            try:
                self._download(home)
            except Exception as error:  # torchvision raises RuntimeError, urllib its own types
                reason = " ".join(str(error).split())
                raise self._unavailable(home, f" (download failed: {reason})") from error
        return home

    def _download(self, home: Path) -> None:
        """Download the files in one of several processes; ``home`` appears complete or not at all.

        Files that ``home`` already contains are kept.
        """
        _check_server(self.URL)  # outside the lock: without a network all processes fail at once
        with exclusive_lock(data_folder() / f".{self.HOME.replace('/', '-')}.lock"):
            if self._missing(home):  # no other process has downloaded them meanwhile
                with temporary_folder(data_folder()) as folder, _socket_timeout(STALL_TIMEOUT):
                    publish(self._fetch(folder), home)

    def _unavailable(self, folder: Path, reason: str = "") -> FileNotFoundError:
        options = [self.HOW_TO_OBTAIN] if self.HOW_TO_OBTAIN else []
        if self.URL:
            options.insert(0, f"set dataset.folder=DIR to a folder with {', '.join(self.FILES)}")
            options.append(
                "run once without dataset.folder on a machine with network access, which "
                f"downloads {self.URL} to {data_folder() / self.HOME}"
            )
        return FileNotFoundError(
            f"data not available: {self.NAME}: {folder} lacks {', '.join(self._missing(folder))}"
            f"{reason}. To obtain the files, {', or '.join(options)}"
        )


def _check_server(url: str) -> None:
    """Raise OSError if the server does not respond."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=RESPONSE_TIMEOUT).close()
    except HTTPError as error:  # an error status is a response, too
        error.close()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the default timeout of sockets; torchvision's downloads have no setting of their own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
