"""What all data sets that lie in files share: finding, fetching, decoding once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from accelerando.data.cache import cached
from accelerando.data.download import download
from accelerando.data.source import Arrays, Decoded, describe_mismatch, normalised
from accelerando.data.storage import data_folder


@dataclass(frozen=True, kw_only=True)
class FileSource(ABC):
    """A data set in files, which a subclass names, fetches and decodes.

    Args:
        examples: training examples; fewer than there are take a part of them.
        shape: channels, height, width.
        classes: number of labels.
        mean: of each channel of the training images, in units of the largest pixel value, 255.
        std: likewise.
        folder: where the files are. Left out: the places where packages put them, else the
            download folder, else a download.
    """

    NAME: ClassVar[str]
    URL: ClassVar[str]
    """Where it is downloaded from."""
    HOME: ClassVar[str]
    """Its folder within the folder of downloads."""
    FILES: ClassVar[tuple[str, ...]]
    """What its folder must hold, files or folders."""
    PACKAGE: ClassVar[str] = ""
    """How a package manager installs it."""
    INSTALLED: ClassVar[Path | None] = None
    """Where the package puts it."""

    examples: int
    shape: Sequence[int]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    folder: str | None = None

    def prepare(self) -> None:
        """Find the files, or download them.

        Raises:
            FileNotFoundError: the folder lacks a file, or nothing could be found or downloaded.
        """
        self._located()

    def load(self) -> Arrays:
        """The data, from the cache where they were decoded before.

        Raises:
            FileNotFoundError: as ``prepare``.
            ValueError: a file is damaged, or the data are not what the settings say.
        """
        folder = self._located().resolve()
        decoded = cached(
            self.HOME.split("/")[0].lower(), self._key(folder), lambda: self._decode(folder)
        )
        arrays = normalised(
            decoded,
            mean=[value * 255 for value in self.mean],
            std=[value * 255 for value in self.std],
        )
        return describe_mismatch(
            arrays, examples=self.examples, shape=self.shape, classes=self.classes
        )

    @abstractmethod
    def _decode(self, folder: Path) -> Decoded: ...

    @abstractmethod
    def _fetch(self, folder: Path) -> Path:
        """Download into ``folder``; return the folder of the files."""

    def _path(self, folder: Path, name: str) -> Path | None:
        """The file or folder of this name, under whichever ending it may have."""
        path = folder / name
        return path if path.exists() else None

    def _files(self, folder: Path) -> Iterable[Path]:
        """The files that are decoded."""
        return (path for name in self.FILES if (path := self._path(folder, name)))

    def _key(self, folder: Path) -> Iterable[str]:
        """Lines that change when the files do."""
        for path in self._files(folder):
            status = path.stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}"

    def _missing(self, folder: Path) -> list[str]:
        return [name for name in self.FILES if self._path(folder, name) is None]

    def _located(self) -> Path:
        if self.folder is not None:
            return self._in_given(Path(self.folder).expanduser())
        if self.INSTALLED is not None and not self._missing(self.INSTALLED):
            return self.INSTALLED
        home = data_folder() / self.HOME
        if self._missing(home):
            self._download(home)
        return home

    def _in_given(self, folder: Path) -> Path:
        for place in (folder, folder / self.HOME):  # the second is what torchvision calls a root
            if not self._missing(place):
                return place
        raise FileNotFoundError(
            f"dataset.folder={self.folder} lacks {', '.join(self._missing(folder))}. {self._ways()}"
        )

    def _download(self, home: Path) -> None:
        try:
            download(
                self.HOME, url=self.URL, fetch=self._fetch, there=lambda: not self._missing(home)
            )
        except Exception as error:  # torchvision raises RuntimeError, urllib its own
            reason = " ".join(str(error).split())
            raise FileNotFoundError(
                f"{self.NAME} was not found, nor downloaded ({reason}): {home} lacks "
                f"{', '.join(self._missing(home))}. {self._ways()}"
            ) from error

    def _ways(self) -> str:
        package = f"{self.PACKAGE}; " if self.PACKAGE else ""
        return (
            f"Ways to have it: set dataset.folder=DIR to a folder with {', '.join(self.FILES)}; "
            f"{package}or run once where the network allows, torchvision then downloads it from "
            f"{self.URL} to {data_folder() / self.HOME}"
        )
