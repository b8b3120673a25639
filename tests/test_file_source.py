"""Data sets in files: found, cached and downloaded, by many processes and without a network."""

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

from accelerando.data import file_source
from accelerando.data.cifar import Cifar10
from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.file_source import FileSource
from accelerando.data.mnist import Mnist
from accelerando.data.tiny_imagenet import TinyImageNet
from accelerando.interruption import Interrupted, SignalHandler
from small_data import SETTINGS, WRITERS, each_source

pytestmark = pytest.mark.usefixtures("data_folder")
REQUESTS = 2
"""Requests that torchvision makes per file; the first one resolves redirects."""
ServeSource = Callable[[type[FileSource]], None]


@each_source
def test_files_are_found_in_each_place(
    source: type[FileSource], tmp_path: Path, data_folder: Path
) -> None:
    root, settings = tmp_path / "root", SETTINGS[source]
    WRITERS[source](root / source.HOME)
    arrays = source(**settings, folder=str(root / source.HOME)).load()
    assert arrays.mean == tuple(255 * value for value in settings["mean"])
    assert arrays.std == tuple(255 * value for value in settings["std"])
    again = source(**{**settings, "std": [1] * len(arrays.std)}, folder=str(root)).load()
    assert (again.train_images == arrays.train_images).all()
    assert again.std == (255,) * len(arrays.std)
    data_folder.mkdir(exist_ok=True)
    (root / source.HOME.split("/")[0]).rename(data_folder / source.HOME.split("/")[0])
    assert (source(**settings).load().test_images == arrays.test_images).all()


@each_source
def test_changed_files_are_decoded_again(source: type[FileSource], tmp_path: Path) -> None:
    WRITERS[source](tmp_path / "a")
    WRITERS[source](tmp_path / "b")
    opened = source(**SETTINGS[source], folder=str(tmp_path / "a"))
    before = opened.load()
    for path in (tmp_path / "b").rglob("*"):
        if path.is_file():
            path.replace(tmp_path / "a" / path.relative_to(tmp_path / "b"))
    assert (before.train_images != opened.load().train_images).any()


class Handler(SimpleHTTPRequestHandler):
    """Serves ``server.folder`` and records the requests."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def translate_path(self, path: str) -> str:
        return f"{self.server.folder}{path}"  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.folder, server.requests = tmp_path / "served", []  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}/"  # type: ignore[attr-defined]
        (tmp_path / "served").mkdir()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(server: Any, monkeypatch: pytest.MonkeyPatch) -> ServeSource:
    """Serve a small data set in place of the real one."""

    def serve_archive(source: type[FileSource]) -> None:
        archive_format = "zip" if source is TinyImageNet else "gztar"
        home = server.folder / source.HOME
        WRITERS[source](home)
        path = Path(shutil.make_archive(str(home), archive_format, server.folder, source.HOME))
        monkeypatch.setattr(source, "URL", server.url + path.name)
        monkeypatch.setattr(source, "MD5", hashlib.md5(path.read_bytes()).hexdigest())

    def serve_files(source: type[FileSource]) -> None:
        WRITERS[source](server.folder)
        for path in list(server.folder.iterdir()):
            path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        monkeypatch.setattr(source, "URL", server.url)
        checksums = [
            (f"{name}.gz", hashlib.md5((server.folder / f"{name}.gz").read_bytes()).hexdigest())
            for name in source.FILES
        ]
        dataset = getattr(datasets, source.HOME.split("/")[0])
        monkeypatch.setattr(dataset, "mirrors", [server.url])
        monkeypatch.setattr(dataset, "resources", checksums)

    return lambda source: (serve_files if issubclass(source, Mnist) else serve_archive)(source)


def temporary_folders(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".accelerando-*")]


@each_source
def test_missing_files_are_downloaded_once(
    source: type[FileSource], serve: ServeSource, server: Any, data_folder: Path
) -> None:
    serve(source)
    arrays = source(**SETTINGS[source]).load()
    assert len(arrays.train_images) == SETTINGS[source]["examples"]
    requests = len(server.requests)
    assert requests == REQUESTS * (4 if issubclass(source, Mnist) else 1)
    source(**SETTINGS[source]).prepare()
    assert len(server.requests) == requests
    assert temporary_folders(data_folder) == []
    assert (data_folder / source.HOME).stat().st_mode & 0o777 == 0o777 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_signal_interrupts_waiting_for_another_download(
    serve: ServeSource, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Cifar10)
    data_folder.mkdir()
    monkeypatch.setattr(
        "accelerando.data.storage.time.sleep", lambda _: signal.raise_signal(signal.SIGTERM)
    )
    with (data_folder / f".{Cifar10.HOME}.lock").open("a") as lock, SignalHandler():
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Interrupted, match="SIGTERM"):
            Cifar10(**SETTINGS[Cifar10]).prepare()


@pytest.mark.parametrize("locks", [True, False])
def test_concurrent_processes_download_once(
    locks: bool,
    serve: ServeSource,
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
        lengths.put(len(Cifar10(**SETTINGS[Cifar10]).load().train_images))

    processes = [fork.Process(target=work) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    assert [lengths.get() for _ in range(8)] == [15] * 8
    requests = len(server.requests)
    assert requests == REQUESTS if locks else requests > REQUESTS
    assert temporary_folders(data_folder) == []


def test_incomplete_folder_is_completed(serve: ServeSource, data_folder: Path) -> None:
    serve(Cifar10)
    WRITERS[Cifar10](data_folder / Cifar10.HOME)
    existing = (data_folder / Cifar10.HOME / "data_batch_1").read_bytes()
    (data_folder / Cifar10.HOME / "test_batch").unlink()
    Cifar10(**SETTINGS[Cifar10]).load()
    assert (data_folder / Cifar10.HOME / "data_batch_1").read_bytes() == existing


def test_corrupt_download_is_discarded(
    serve: ServeSource, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Cifar10)
    monkeypatch.setattr(Cifar10, "MD5", "0" * 32)
    with pytest.raises(FileNotFoundError, match=r"download failed: .*corrupted"):
        Cifar10(**SETTINGS[Cifar10]).prepare()
    assert not (data_folder / Cifar10.HOME).exists()
    assert temporary_folders(data_folder) == []


@pytest.mark.parametrize("response", [b"", b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nhello"])
def test_stalled_download_times_out(response: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_source, "RESPONSE_TIMEOUT", 0.3)
    monkeypatch.setattr(file_source, "STALL_TIMEOUT", 0.3)
    connections = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(silent.accept()[0])
                connections[-1].sendall(response)

    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=accept)
        thread.start()
        stack.callback(thread.join)
        stack.callback(silent.shutdown, socket.SHUT_RDWR)
        monkeypatch.setattr(Cifar10, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz")
        begin = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            Cifar10(**SETTINGS[Cifar10]).prepare()
        assert time.monotonic() - begin < 10
    for connection in connections:
        connection.close()
    assert socket.getdefaulttimeout() is None


def test_data_folder_that_cannot_be_created_is_reported(
    serve: ServeSource, data_folder: Path
) -> None:
    serve(Cifar10)
    data_folder.write_text("a file")
    with pytest.raises(
        FileNotFoundError, match=r"download failed: .*(Not a directory|File exists)"
    ):
        Cifar10(**SETTINGS[Cifar10]).prepare()


@each_source
def test_message_explains_how_to_obtain_the_files(
    source: type[FileSource], tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "URL", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError, match=r"^data not available: ") as caught:
        source(**SETTINGS[source]).prepare()
    message = str(caught.value)
    for part in (source.FILES[0], str(data_folder), "http://127.0.0.1:9/", "dataset.folder=DIR"):
        assert part in message
    assert ("apt install dataset-fashion-mnist" in message) == (source is FashionMnist)
    assert "\n" not in message
    with pytest.raises(FileNotFoundError, match=rf": {tmp_path} lacks {source.FILES[0]}"):
        source(**SETTINGS[source], folder=str(tmp_path)).prepare()
