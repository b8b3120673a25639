"""A fake W&B server on localhost, for tests with the real client and its commands.

It implements the requests of wandb 0.31 for runs, rows, files, resuming and alerts, and those of
sweep agents (``wandb_sweeps``). Its data survive ``stop`` and ``start``.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import wandb_sweeps

HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"
KEY = "0123456789abcdef0123456789abcdef01234567"
"""An API key in W&B's format, which must not appear in any file."""


@dataclass
class Run:
    """The server's data about one run."""

    attributes: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    preempting: bool = False
    exitcode: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the history, without W&B's own keys."""
        return [
            {k: v for k, v in json.loads(line).items() if not k.startswith("_")}
            for line in self.content(HISTORY)
        ]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.content(SUMMARY)
        return json.loads(lines[-1]) if lines else {}

    def content(self, name: str) -> list[str]:
        """Lines of a streamed file, in order."""
        return [line for _, line in sorted(self.lines.get(name, {}).items())]


class WandbServer:
    """Runs by id, sweeps by name, and the names of all queries received."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, wandb_sweeps.Sweep] = {}
        self.queries: list[str] = []
        self.deleted: set[str] = set()
        """Ids of runs deleted on the server."""
        self.stop_runs = False
        """Ask every run to stop, as the button on its page does."""
        self.reject_rows = False
        self.delay = 0.0
        """Seconds before each answer."""
        self.port = 0
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make clients use this server, and retry quickly."""
        waits = {
            f"WANDB__{part}_RETRY_WAIT_{end}_SECONDS": "0.2"
            for part in ("FILE_STREAM", "GRAPHQL", "FILE_TRANSFER")
            for end in ("MIN", "MAX")
        }
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.2",
            "WANDB_ERROR_REPORTING": "false",
            **waits,
        }

    def start(self) -> None:
        """Start serving; after ``stop`` at the same address."""
        handler = type("Handler", (_Handler,), {"server_data": self})
        self._http = _Http(("127.0.0.1", self.port), handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop serving, and close all connections."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data that a GraphQL query asks for."""
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)
        assert name is not None, query
        self.queries.append(name[1])
        with self._lock:
            if name[1] not in ANSWERS:
                raise LookupError(f"the fake server does not implement {name[1]}: {query}")
            return ANSWERS[name[1]](self, variables)

    def server_features_query(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": "someone"}}]}
        user = {"id": "VXNlcjox", "entity": "someone", "username": "someone", "flags": "{}"}
        return {"viewer": user | {"email": "someone@example.com", "teams": teams, "admin": False}}

    def organization_core_weave_organization_id(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def run_resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        project = {
            "id": "p",
            "name": variables["project"],
            "entity": {"id": "e", "name": "someone"},
        }
        run = self.runs.get(variables["name"])
        if run is None:
            return {"model": {**project, "bucket": None}}
        run.exitcode, run.preempting = None, False  # a client is about to resume it
        history = run.content(HISTORY)
        bucket = {
            "id": f"bucket-{variables['name']}",
            "name": variables["name"],
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.attributes.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": len(run.content("wandb-events.jsonl")),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps([]),
            "config": json.dumps({k: {"value": v} for k, v in run.config.items()}),
            "tags": run.attributes.get("tags") or [],
            "notes": run.attributes.get("notes"),
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**project, "bucket": bucket}}

    def upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        if variables.get("entity") not in (None, "", "someone"):
            raise PermissionError(403, "permission denied")
        if name in self.deleted:
            raise PermissionError(409, f"run {name} was previously created and deleted; try a new")
        inserted = name not in self.runs
        run = self.runs.setdefault(name, Run())
        run.attributes |= {key: value for key, value in variables.items() if value is not None}
        config = json.loads(variables.get("config") or "{}")
        run.config |= {key: item["value"] for key, item in config.items()}
        entity = {"id": "e", "name": "someone"}
        bucket = {
            "id": f"bucket-{name}",
            "name": name,
            "displayName": run.attributes.get("displayName"),
            "description": None,
            "config": json.dumps(config),
            "sweepName": variables.get("sweep"),
            "project": {"id": "p", "name": variables.get("project"), "entity": entity},
            "historyLineCount": len(run.content(HISTORY)),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{variables['run']}/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def run_state(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"id": variables["run"], "state": "running"}}}

    def one_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["name"]]
        about = {"id": "r", "name": variables["name"], "projectId": "1", "state": "finished"}
        return {"project": {"run": {**about, "historyLineCount": len(run.content(HISTORY))}}}

    def notify_scriptable_run_alert(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.runs[variables["runName"]].alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Store the rows and the exit status that a client streams."""
        with self._lock:
            run = self.runs[name]
            for file, part in (sent.get("files") or {}).items():
                lines = run.lines.setdefault(file, {})
                lines |= dict(enumerate(part["content"], start=part["offset"]))
            run.preempting = run.preempting or bool(sent.get("preempting"))
            if sent.get("complete"):
                run.exitcode = sent["exitcode"]
                if run.preempting and run.exitcode:
                    wandb_sweeps.requeue(self, name)


ANSWERS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "ServerFeaturesQuery": WandbServer.server_features_query,
    "Viewer": WandbServer.viewer,
    "OrganizationCoreWeaveOrganizationID": WandbServer.organization_core_weave_organization_id,
    "RunResumeStatus": WandbServer.run_resume_status,
    "UpsertBucket": WandbServer.upsert_bucket,
    "CreateRunFiles": WandbServer.create_run_files,
    "Run": WandbServer.one_run,
    "RunState": WandbServer.run_state,
    "NotifyScriptableRunAlert": WandbServer.notify_scriptable_run_alert,
    **wandb_sweeps.ANSWERS,
}
"""Implementation of each GraphQL query, by its name."""


class _Http(ThreadingHTTPServer):
    open: ClassVar[list[socket.socket]] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in self.open:  # which clients keep alive
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.open.clear()

    def handle_error(self, *arguments: Any) -> None:
        """Ignore clients that were killed or have closed their connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*arguments)


class _Handler(BaseHTTPRequestHandler):
    server_data: WandbServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None: ...

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, code: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self._body())
        time.sleep(self.server_data.delay)
        if self.path != "/graphql":
            if self.server_data.reject_rows:
                return self._reply(403, {"error": "permission denied"})
            self.server_data.stream(self.path.split("/")[-2], body)
            return self._reply(200, {"limits": {}, "stopped": self.server_data.stop_runs})
        try:
            data = self.server_data.answer(body["query"], body.get("variables") or {})
        except PermissionError as error:
            return self._reply(error.errno or 403, {"errors": [{"message": error.strerror}]})
        except LookupError as error:
            return self._reply(400, {"errors": [{"message": str(error)}]})
        return self._reply(200, {"data": data})

    def do_PUT(self) -> None:
        _, _, run, name = self.path.split("/", 3)
        self.server_data.runs.setdefault(run, Run()).files[name] = self._body()
        self._reply(200, {})

    def do_GET(self) -> None:
        self._reply(200, {})
