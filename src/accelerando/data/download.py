"""Fetching a data set, by one process for all, in seconds where there is no network."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

from accelerando.data.storage import data_folder, one_at_a_time, publish, workspace

ANSWER = 5.0
"""Seconds a server has to answer at all."""
STALL = 30.0
"""Seconds a download may stand still."""


def download(
    home: str, *, url: str, fetch: Callable[[Path], Path], there: Callable[[], bool]
) -> None:
    """Make a folder of downloads from the network; it appears whole.

    Args:
        home: the folder to be, within the data folder; files it holds already are left as they are.
        url: asked first, so that no network is found out in seconds, and by all at once.
        fetch: downloads into the folder it is given and returns the one that is to be ``home``.
        there: whether another process has done it.

    Raises:
        OSError: no answer, or no space; what else ``fetch`` raises is passed on.
    """
    _ask(url)
    parent = data_folder()
    with one_at_a_time(parent / f".{home.replace('/', '-')}.lock"):
        if not there():
            with workspace(parent) as folder, _socket_timeout(STALL):
                publish(fetch(folder), parent / home)


def _ask(url: str) -> None:
    """Raise OSError where no server answers."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=ANSWER).close()
    except HTTPError as error:  # an answer all the same
        error.close()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
