"""Downloads: from a server of the test's own, by many processes at once, and with no server."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets

from accelerando.data import download
from accelerando.data.cifar import Cifar10
from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.files import FileSource
from accelerando.data.mnist import STEMS, Mnist
from accelerando.data.tiny_imagenet import TinyImageNet
from accelerando.interruption import Interrupted, SignalHandler
from small_data import SMALL, WRITE

ASKED = 2
"""Requests that torchvision makes for a file: the first finds out whether it has moved."""
every_source = pytest.mark.parametrize("kind", WRITE, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(FashionMnist, "INSTALLED", None)
    return tmp_path / "data"


class Handler(SimpleHTTPRequestHandler):
    """Serves ``server.folder`` and counts what is fetched."""

    def do_GET(self) -> None:
        self.server.fetched.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def translate_path(self, path: str) -> str:
        return f"{self.server.folder}{path}"  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.folder, server.fetched = tmp_path / "served", []  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}/"  # type: ignore[attr-defined]
        (tmp_path / "served").mkdir()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(server: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[FileSource]], None]:
    """Serve a small data set where the source looks for the real one."""

    def archive(kind: type[FileSource]) -> None:
        kind_of_archive = "zip" if kind is TinyImageNet else "gztar"
        WRITE[kind](server.folder / kind.HOME)
        path = Path(
            shutil.make_archive(
                str(server.folder / kind.HOME), kind_of_archive, server.folder, kind.HOME
            )
        )
        monkeypatch.setattr(kind, "URL", server.url + path.name)
        monkeypatch.setattr(kind, "MD5", hashlib.md5(path.read_bytes()).hexdigest())

    def four_files(kind: type[FileSource]) -> None:
        WRITE[kind](server.folder)
        for path in list(server.folder.iterdir()):
            path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        monkeypatch.setattr(kind, "URL", server.url)
        theirs = getattr(datasets, kind.HOME.split("/")[0])
        monkeypatch.setattr(theirs, "mirrors", [server.url])
        sums = [
            (f"{stem}.gz", hashlib.md5((server.folder / f"{stem}.gz").read_bytes()).hexdigest())
            for stem in STEMS
        ]
        monkeypatch.setattr(theirs, "resources", sums)

    return lambda kind: (four_files if issubclass(kind, Mnist) else archive)(kind)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".accelerando-*")]


@every_source
def test_what_is_not_there_is_downloaded_once(
    kind: type[FileSource], serve: Callable[..., None], server: Any, data_folder: Path
) -> None:
    serve(kind)
    arrays = kind(**SMALL[kind]).load()
    assert len(arrays.train_images) == SMALL[kind]["examples"]
    fetched = len(server.fetched)
    assert fetched == ASKED * (4 if issubclass(kind, Mnist) else 1)
    kind(**SMALL[kind]).prepare()
    assert len(server.fetched) == fetched
    assert hidden(data_folder) == []
    assert (data_folder / kind.HOME).stat().st_mode & 0o777 == 0o777 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_signal_ends_the_waiting_for_anothers_download(
    serve: Callable[..., None], data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Cifar10)
    data_folder.mkdir()
    monkeypatch.setattr(
        "accelerando.data.storage.time.sleep", lambda _: signal.raise_signal(signal.SIGTERM)
    )
    with (data_folder / f".{Cifar10.HOME}.lock").open("a") as other, SignalHandler():
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Interrupted, match="SIGTERM"):
            Cifar10(**SMALL[Cifar10]).prepare()


@pytest.mark.parametrize("locks", [True, False])
def test_many_processes_at_once(
    locks: bool,
    serve: Callable[..., None],
    server: Any,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    if not locks:
        monkeypatch.setattr(fcntl, "flock", refuse)
    serve(Cifar10)
    fork = multiprocessing.get_context("fork")
    barrier, lengths = fork.Barrier(8), fork.SimpleQueue()

    def work() -> None:
        barrier.wait(60)
        lengths.put(len(Cifar10(**SMALL[Cifar10]).load().train_images))

    processes = [fork.Process(target=work) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    assert [lengths.get() for _ in range(8)] == [15] * 8
    assert len(server.fetched) == ASKED if locks else len(server.fetched) > ASKED
    assert hidden(data_folder) == []


def test_a_folder_that_lacks_a_file_is_completed(
    serve: Callable[..., None], data_folder: Path
) -> None:
    serve(Cifar10)
    WRITE[Cifar10](data_folder / Cifar10.HOME)
    mine = (data_folder / Cifar10.HOME / "data_batch_1").read_bytes()
    (data_folder / Cifar10.HOME / "test_batch").unlink()
    Cifar10(**SMALL[Cifar10]).load()
    assert (data_folder / Cifar10.HOME / "data_batch_1").read_bytes() == mine


def test_a_damaged_download_is_not_kept(
    serve: Callable[..., None], data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Cifar10)
    monkeypatch.setattr(Cifar10, "MD5", "0" * 32)
    with pytest.raises(FileNotFoundError, match=r"nor downloaded .*corrupted"):
        Cifar10(**SMALL[Cifar10]).prepare()
    assert not (data_folder / Cifar10.HOME).exists()
    assert hidden(data_folder) == []


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nhello"])
def test_a_network_that_stands_still_is_not_waited_for(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ANSWER", 0.3)
    monkeypatch.setattr(download, "STALL", 0.3)
    connections = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connections.append(silent.accept()[0])
                connections[-1].sendall(answer)

    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(silent.shutdown, socket.SHUT_RDWR)
        monkeypatch.setattr(Cifar10, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz")
        begin = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            Cifar10(**SMALL[Cifar10]).prepare()
        assert time.monotonic() - begin < 10
    for connection in connections:
        connection.close()
    assert socket.getdefaulttimeout() is None


def test_a_folder_of_downloads_that_cannot_be_made_is_told(
    serve: Callable[..., None], data_folder: Path
) -> None:
    serve(Cifar10)
    data_folder.write_text("a file")
    with pytest.raises(FileNotFoundError, match=r"nor downloaded .*Not a directory|File exists"):
        Cifar10(**SMALL[Cifar10]).prepare()


@every_source
def test_without_files_and_network_what_to_do_is_said(
    kind: type[FileSource], tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "URL", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError) as caught:
        kind(**SMALL[kind]).prepare()
    message = str(caught.value)
    for part in (kind.FILES[0], str(data_folder), "http://127.0.0.1:9/", "dataset.folder=DIR"):
        assert part in message
    assert ("apt install dataset-fashion-mnist" in message) == (kind is FashionMnist)
    assert "\n" not in message
    with pytest.raises(FileNotFoundError, match=rf"={tmp_path} lacks {kind.FILES[0]}"):
        kind(**SMALL[kind], folder=str(tmp_path)).prepare()
