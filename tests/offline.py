"""Read a W&B offline file back, by its format: LevelDB's log of protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

FILE_HEADER, RECORD_HEADER, BLOCK = 7, 7, 32768
FULL, LAST = 1, 4


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
    """The rows that were logged, without W&B's own keys."""
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
    """The summary as it is at the end."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.HasField("summary"):
            found |= {i.key: json.loads(i.value_json) for i in record.summary.update}
    return found


def config(path: Path) -> dict[str, Any]:
    """The settings that were logged, as they are at the end."""
    found: dict[str, Any] = {}
    for record in records(path):
        updates = [*record.run.config.update, *record.config.update]
        found |= {item.key: json.loads(item.value_json) for item in updates}
    return found


def artifacts(path: Path) -> list[Any]:
    """The artifacts that were logged."""
    requests = [r.request.log_artifact for r in records(path) if r.HasField("request")]
    found = [request.artifact for request in requests if request.artifact.name]
    return found + [record.artifact for record in records(path) if record.HasField("artifact")]
