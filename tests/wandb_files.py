"""Read the files of an offline W&B run: LevelDB logs of protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from accelerando.runs.folder import RunFolder

FILE_HEADER, RECORD_HEADER, BLOCK = 7, 7, 32768
FULL, LAST = 1, 4


def offline_files(folder: RunFolder) -> list[Path]:
    """The offline W&B files of a run, one for each start, oldest first."""
    return sorted(folder.path.glob("wandb/offline-run-*/*.wandb"))


def records(path: Path) -> Iterator[Record]:
    """Every record of a ``.wandb`` file, in order."""
    content, position, parts = path.read_bytes(), FILE_HEADER, b""
    while position + RECORD_HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        begin = position + RECORD_HEADER
        parts += content[begin : begin + length]
        position = begin + length
        if kind in (FULL, LAST):
            yield Record.FromString(parts)
            parts = b""


def history(path: Path) -> list[dict[str, Any]]:
    """The logged rows, without W&B's own keys."""
    rows = []
    for record in records(path):
        if record.HasField("history"):
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            rows.append({k: v for k, v in items.items() if not k.startswith("_")})
    return rows


def summary(path: Path) -> dict[str, Any]:
    """The final summary."""
    values: dict[str, Any] = {}
    for record in records(path):
        if record.HasField("summary"):
            values |= {i.key: json.loads(i.value_json) for i in record.summary.update}
    return values


def config(path: Path) -> dict[str, Any]:
    """The final config."""
    values: dict[str, Any] = {}
    for record in records(path):
        updates = [*record.run.config.update, *record.config.update]
        values |= {item.key: json.loads(item.value_json) for item in updates}
    return values


def artifacts(path: Path) -> list[Any]:
    """The logged artifacts."""
    requests = [r.request.log_artifact for r in records(path) if r.HasField("request")]
    requested = [request.artifact for request in requests if request.artifact.name]
    return requested + [r.artifact for r in records(path) if r.HasField("artifact")]
