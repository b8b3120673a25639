"""A SLURM cluster in one folder: start its daemons, find them again, stop them."""

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
from dev.processes import (
    free_ports,
    freeze,
    is_listening,
    kill,
    processes_of_node,
    start_time,
    write_private,
)

RESPONSIVE = ("idle", "mixed", "allocated", "completing")
"""States of a node that responds."""


class Failed(Exception):
    """A daemon did not start or stop; the message includes the end of its log."""


def log(text: str) -> None:
    """Print to stderr: the shell evaluates what ``up`` prints to stdout."""
    print(f"dev_cluster: {text}", file=sys.stderr, flush=True)


class DevCluster:
    """The cluster in a folder, which may not have been started yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        # drop the variables of another cluster that this command may run in
        foreign = ("SLURM", "SBATCH", "SACCT", "SINFO", "MUNGE", "MYSQL", "MARIADB")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.environment["SLURM_CONF"] = str(self.conf)
        self.environment["MYSQL_UNIX_PORT"] = str(folder / "mariadb.socket")

    @property
    def accounting(self) -> bool:
        return (self.folder / "slurmdbd.conf").exists()

    @property
    def name(self) -> str:
        """The cluster's name in SLURM."""
        return re.findall(r"ClusterName=(\w+)", self.conf.read_text())[0]

    def query(self, *command: str) -> str:
        """Return the output of a SLURM command."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        ).stdout

    def up(self, *, accounting: bool) -> None:
        """Start all daemons that are not running and wait until every node responds.

        If a new cluster fails to start, everything that was started is stopped.
        """
        is_new = not self.conf.exists()
        try:
            if is_new:
                self.write_configuration(accounting)
            munge = self.folder / "munge"
            files = [f"--{name}={munge}/{name}" for name in ("key-file", "pid-file", "seed-file")]
            # --force accepts a folder that only root can enter, such as pytest's
            self.start("munged", "--foreground", "--force", f"--socket={munge}/socket", *files)
            self.wait_for("munged", lambda: is_listening(munge / "socket"))
            if self.accounting:
                self.start_accounting()
            self.start("slurmctld", "-D")
            self.start_nodes(NODES)
            if self.accounting:
                self.wait_for("slurmdbd", lambda: "JobID" in self.query("sacct"))
        except BaseException:
            if is_new:
                self.down()
            raise

    def write_configuration(self, accounting: bool) -> None:
        """Create the subfolders, the configuration files and a munge key."""
        for name in ("pids", "log", "run", "state", "munge", "spool"):
            (self.folder / name).mkdir(exist_ok=True)
        write_private(self.folder / "munge" / "key-file", os.urandom(128))
        daemons = ["slurmctld", "slurmdbd", *NODES]
        ports = dict(zip(daemons, free_ports(len(daemons)), strict=True))
        storage = "AccountingStorageType=accounting_storage/none"
        if accounting:
            storage = STORAGE.format(folder=self.folder, port=ports["slurmdbd"])
            conf = SLURMDBD_CONF.format(folder=self.folder, port=ports["slurmdbd"])
            write_private(self.folder / "slurmdbd.conf", conf.encode())
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
        """Start a private MariaDB and slurmdbd, and register the cluster."""
        socket_path = Path(self.environment["MYSQL_UNIX_PORT"])
        options = ["--no-defaults", f"--datadir={self.folder}/database", "--user=root", *MARIADB]
        if not (self.folder / "database").exists():
            log("creating the accounting database")
            access = ["--skip-test-db", "--auth-root-authentication-method=normal"]
            created = subprocess.run(
                ["mariadb-install-db", *options, *access], capture_output=True, text=True
            )
            if created.returncode:
                output = f"{created.stdout[-2000:]}{created.stderr}"
                raise Failed(f"mariadb-install-db failed:\n{output}")
        paths = [f"--socket={socket_path}", f"--pid-file={self.folder}/run/mariadbd.pid"]
        self.start("mariadbd", *options, "--skip-networking", *paths)
        self.wait_for("mariadbd", lambda: is_listening(socket_path))
        self.start("slurmdbd", "-D")
        add = ("sacctmgr", "--immediate", "add", "cluster", self.name)
        self.wait_for("slurmdbd", lambda: self.name in self.query(*add))

    def start_nodes(self, nodes: list[str]) -> None:
        """Start nodes and wait until slurmctld reports that they respond."""
        for node in nodes:
            self.start(node, "-D", "-N", node, program="slurmd")
        for node in nodes:
            self.wait_for(node, lambda node=node: self.node_state(node) in RESPONSIVE)

    def node_state(self, node: str) -> str:
        """Return the state that sinfo shows; a trailing asterisk means no response."""
        return self.query("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T").strip()

    def start(self, name: str, *arguments: str, program: str | None = None) -> None:
        """Start a daemon that is not running, in the foreground, which reveals its pid."""
        if self.pid(name):
            return
        log(f"starting {name}")
        with (self.folder / "log" / f"{name}.out").open("w") as output:
            process = subprocess.Popen(
                [program or name, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (self.folder / "pids" / name).write_text(f"{process.pid} {start_time(process.pid)}")

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until ``ready()`` returns true.

        Raises:
            Failed: the daemon ended or the time is up; includes the end of its output.
        """
        end = time.monotonic() + seconds
        while not ready():
            if not self.pid(name) or time.monotonic() > end:
                lines = (self.folder / "log" / f"{name}.out").read_text(errors="replace")
                reason = f"did not respond within {seconds:g} s" if self.pid(name) else "ended"
                raise Failed("\n  ".join([f"{name} {reason}:", *lines.splitlines()[-10:]]))
            time.sleep(0.05)

    def pid(self, name: str) -> int | None:
        """Return the pid of the daemon that was started under this name, if it still runs."""
        try:
            pid, started = (self.folder / "pids" / name).read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    def kill(self, node: str) -> None:
        """End all processes of a node as a power failure would, without notice."""
        # freeze them all before killing any: a step that survived another would report its end
        frozen: set[int] = set()
        node_log = self.folder / "log" / f"{node}.log"
        # repeat, as a step may be starting another process
        while pids := processes_of_node(node, self.name, node_log) - frozen:
            freeze(pids)
            frozen |= pids
        kill(frozen)

    def down(self) -> None:
        """Stop all processes of the cluster and remove its folder."""
        kill({pid for name in ("slurmctld", *NODES) if (pid := self.pid(name))})
        if self.conf.exists():
            for node in NODES:
                self.kill(node)
        kill({pid for path in (self.folder / "pids").iterdir() if (pid := self.pid(path.name))})
        # if `up` was interrupted, mariadb-install-db may write for another moment
        end = time.monotonic() + 10
        while self.folder.exists() and time.monotonic() < end:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            raise Failed(f"cannot remove {self.folder}")

    def print_status(self) -> bool:
        """Print the pid and state of every daemon; return whether all of them run."""
        paths = sorted((self.folder / "pids").iterdir())
        for path in paths:
            pid = self.pid(path.name)
            state = self.node_state(path.name) if path.name in NODES else ""
            print(f"{path.name:10} {pid or 'dead':<8} {state}".rstrip())
        print(f"SLURM_CONF={self.conf}")
        return all(self.pid(path.name) for path in paths)
