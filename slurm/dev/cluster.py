"""The cluster that lives below one folder: its daemons, started, found again and ended."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev.configuration import (
    GRES_CONF,
    MARIADB,
    NODE,
    NODES,
    SLURM_CONF,
    SLURMDBD_CONF,
    STORAGE,
)
from dev.processes import free_ports, freeze, kill, listens, of_node, private, started_at

ALIVE = ("idle", "mixed", "allocated", "completing")


class Failed(Exception):
    """Something did not start or end: the message says what, with the tail of its log."""


def say(text: str) -> None:
    """Progress goes to stderr: stdout is for the shell that evaluates it."""
    print(f"dev_cluster: {text}", file=sys.stderr, flush=True)


class DevCluster:
    """The cluster that lives below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        # not a word of a cluster that this command itself may run in
        foreign = ("SLURM", "SBATCH", "SACCT", "SINFO", "MUNGE", "MYSQL", "MARIADB")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.environment["SLURM_CONF"] = str(self.conf)
        self.environment["MYSQL_UNIX_PORT"] = str(folder / "mariadb.socket")

    @property
    def accounting(self) -> bool:
        return (self.folder / "slurmdbd.conf").exists()

    @property
    def name(self) -> str:
        """What SLURM calls it."""
        return re.findall(r"ClusterName=(\w+)", self.conf.read_text())[0]

    def ask(self, *command: str) -> str:
        """What a SLURM command prints."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        ).stdout

    def up(self, *, accounting: bool) -> None:
        """Start what does not live and wait until all nodes answer; all or nothing if new."""
        fresh = not self.conf.exists()
        try:
            if fresh:
                self.write(accounting)
            at = self.folder / "munge"
            files = [f"--{name}={at}/{name}" for name in ("key-file", "pid-file", "seed-file")]
            # --force: the folder may be one that root alone may enter, such as a test's
            self.start("munged", "--foreground", "--force", f"--socket={at}/socket", *files)
            self.wait_for("munged", lambda: listens(at / "socket"))
            if self.accounting:
                self.start_accounting()
            self.start("slurmctld", "-D")
            self.start_nodes(NODES)
            if self.accounting:
                self.wait_for("slurmdbd", lambda: "JobID" in self.ask("sacct"))
        except BaseException:
            if fresh:
                self.down()
            raise

    def write(self, accounting: bool) -> None:
        """Lay out the folder: configuration, a key, an empty database."""
        for name in ("pids", "log", "run", "state", "munge", "spool"):
            (self.folder / name).mkdir(exist_ok=True)
        private(self.folder / "munge" / "key-file", os.urandom(128))
        daemons = ["slurmctld", "slurmdbd", *NODES]
        ports = dict(zip(daemons, free_ports(len(daemons)), strict=True))
        storage = "AccountingStorageType=accounting_storage/none"
        if accounting:
            storage = STORAGE.format(folder=self.folder, port=ports["slurmdbd"])
            conf = SLURMDBD_CONF.format(folder=self.folder, port=ports["slurmdbd"])
            private(self.folder / "slurmdbd.conf", conf.encode())
        (self.folder / "gres.conf").write_text(GRES_CONF)
        conf = SLURM_CONF.format(
            folder=self.folder,
            name=f"dev{ports['slurmctld']}",
            host=socket.gethostname().partition(".")[0],
            port=ports["slurmctld"],
            nodes="\n".join(NODE.format(name=n, port=ports[n]) for n in NODES),
            storage=storage,
        )
        self.conf.write_text(conf)

    def start_accounting(self) -> None:
        """A private MariaDB without network, slurmdbd on it, and this cluster known to it."""
        at = self.environment["MYSQL_UNIX_PORT"]
        options = ["--no-defaults", f"--datadir={self.folder}/database", "--user=root", *MARIADB]
        if not (self.folder / "database").exists():
            say("making a database")
            anyone = ["--skip-test-db", "--auth-root-authentication-method=normal"]
            made = subprocess.run(
                ["mariadb-install-db", *options, *anyone], capture_output=True, text=True
            )
            if made.returncode:
                raise Failed(f"mariadb-install-db failed:\n{made.stdout[-2000:]}{made.stderr}")
        where = [f"--socket={at}", f"--pid-file={self.folder}/run/mariadbd.pid"]
        self.start("mariadbd", *options, "--skip-networking", *where)
        self.wait_for("mariadbd", lambda: listens(Path(at)))
        self.start("slurmdbd", "-D")
        add = ("sacctmgr", "--immediate", "add", "cluster", self.name)
        self.wait_for("slurmdbd", lambda: self.name in self.ask(*add))

    def start_nodes(self, nodes: list[str]) -> None:
        """Start nodes and wait until slurmctld takes them for alive: idle or at work."""
        for node in nodes:
            self.start(node, "-D", "-N", node, program="slurmd")
        for node in nodes:
            self.wait_for(node, lambda node=node: self.state(node) in ALIVE)

    def state(self, node: str) -> str:
        """As sinfo says it; with a trailing asterisk the node does not answer."""
        return self.ask("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T").strip()

    def start(self, name: str, *arguments: str, program: str | None = None) -> None:
        """Start a daemon, unless it lives, in the foreground: so its pid is known."""
        if self.pid(name):
            return
        say(f"starting {name}")
        with (self.folder / "log" / f"{name}.out").open("w") as log:
            process = subprocess.Popen(
                [program or name, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / "pids" / name).write_text(f"{process.pid} {started_at(process.pid)}")

    def wait_for(self, name: str, true: Callable[[], bool], seconds: float = 90) -> None:
        """Return when ``true()``.

        Raises:
            Failed: the daemon ended, or time is up; with the end of what it printed.
        """
        end = time.monotonic() + seconds
        while not true():
            if not self.pid(name) or time.monotonic() > end:
                lines = (self.folder / "log" / f"{name}.out").read_text(errors="replace")
                why = f"did not answer in {seconds:g} s" if self.pid(name) else "ended"
                raise Failed("\n  ".join([f"{name} {why}:", *lines.splitlines()[-10:]]))
            time.sleep(0.05)

    def pid(self, name: str) -> int | None:
        """The process that was started under this name, if it lives and is still the same."""
        try:
            pid, began = (self.folder / "pids" / name).read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if started_at(int(pid)) == began else None

    def kill(self, node: str) -> None:
        """End a node as a power cut does: nothing is told, nothing is saved."""
        # killed one by one, a step would live to tell that its job was killed
        frozen: set[int] = set()
        # again and again: a step may be starting another process
        while pids := of_node(node, self.name, self.folder / "log" / f"{node}.log") - frozen:
            freeze(pids)
            frozen |= pids
        kill(frozen)

    def down(self) -> None:
        """Stop every process of this cluster and remove its folder."""
        kill({pid for name in ("slurmctld", *NODES) if (pid := self.pid(name))})
        if self.conf.exists():
            for node in NODES:
                self.kill(node)
        kill({pid for path in (self.folder / "pids").iterdir() if (pid := self.pid(path.name))})
        # what makes a database may write for a moment more, if `up` was interrupted
        end = time.monotonic() + 10
        while self.folder.exists() and time.monotonic() < end:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            raise Failed(f"cannot remove {self.folder}")

    def status(self) -> bool:
        """Print what lives; true if everything does."""
        paths = sorted((self.folder / "pids").iterdir())
        for path in paths:
            pid = self.pid(path.name)
            state = self.state(path.name) if path.name in NODES else ""
            print(f"{path.name:10} {pid or 'dead':<8} {state}".rstrip())
        print(f"SLURM_CONF={self.conf}")
        return all(self.pid(path.name) for path in paths)
