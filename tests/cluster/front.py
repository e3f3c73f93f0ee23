"""deploy/haproxy.cfg, run by HAProxy on free ports in front of nodes of this machine.

The copy that runs differs from the file in three things: a field `X-Node` says which node answered,
there may be more than three nodes, and `maxconn` fits the descriptors that a test process may have.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.certificate import certificate_files, shared_context
from tests.faults.client import Client, request_of
from tests.ports import accepts, accepts_unix, free_port
from tests.server import STOP_TIMEOUT_S, Answer, RunningServer, connect_to

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping, Sequence

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
START_TIMEOUT_S = 20.0
CONFIGURED_NODES = 3


class Node(RunningServer):
    """A server on a port of its own for ever, which tests may stop, kill and start again."""

    def __init__(self, root: str | os.PathLike[str], **environ: str) -> None:
        super().__init__(
            root,
            PORT=str(free_port()),
            # A new connection may be accepted by a node that drains before its request comes.
            ZEROCOPY_SERVER_DRAIN_IDLE_S="1",
            ZEROCOPY_SERVER_DRAIN_DEADLINE_S="15",
            # A stream whose client has gone is noticed by the next sign of life.
            ZEROCOPY_LIVE_HEARTBEAT_S="1",
            **environ,
        )

    def freeze(self, *, is_frozen: bool = True) -> None:
        """SIGSTOP to all of its processes, as when a machine hangs; or SIGCONT."""
        for pid in [self.pid, *self.worker_pids()]:
            os.kill(pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)

    def start_again(self) -> None:
        """Start it after its end, and wait until it is ready; `metrics_port` is its new one."""
        times = len(self.logged("ready"))
        self.start()
        self.metrics_port = int(self.logged("ready", times + 1)[-1]["metrics"].rpartition(":")[2])


class Front:
    """HAProxy with deploy/haproxy.cfg before nodes at these ports, from enter until exit."""

    def __init__(self, folder: Path, node_ports: Sequence[int]) -> None:
        self._folder = folder
        self._node_ports = node_ports
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port, self.metrics_port = free_port(), free_port(), free_port()
        self._socket_path = str(folder / "admin.sock")
        self.log_path = folder / "haproxy.log"

    def __enter__(self) -> Self:
        """Start, and wait until every node is taken for healthy."""
        assert HAPROXY is not None
        configuration = self._folder / "haproxy.cfg"
        configuration.write_text(with_nodes(len(self._node_ports)), "utf-8")
        nodes = {
            f"NODE{number}": f"127.0.0.1:{port}" for number, port in enumerate(self._node_ports, 1)
        }
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [HAPROXY, "-db", "-f", configuration],
                env={
                    "FRONT_TLS": f"127.0.0.1:{self.tls_port}",
                    "FRONT_PLAIN": f"127.0.0.1:{self.port}",
                    "FRONT_METRICS": f"127.0.0.1:{self.metrics_port}",
                    "FRONT_CERT": certificate_files()[0],
                    "FRONT_SOCKET": self._socket_path,
                    **nodes,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_start()
            self.await_states(dict.fromkeys(nodes, "UP"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await_start(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        # The path of the runtime API is there before anybody listens on it.
        while not (accepts(self.port) and accepts_unix(self._socket_path)):
            assert self._process.poll() is None, f"HAProxy did not start: {self.log()}"
            assert time.monotonic() < deadline, f"HAProxy did not accept: {self.log()}"
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A raw connection to the plain port."""
        return connect_to(self.port, receive_buffer_bytes)

    def connect_tls(
        self, alpn: Sequence[str], receive_buffer_bytes: int | None = None
    ) -> ssl.SSLSocket:
        """A connection to the TLS port, verified."""
        return shared_context(*alpn).wrap_socket(
            connect_to(self.tls_port, receive_buffer_bytes), server_hostname="127.0.0.1"
        )

    def get(
        self, target: str, *, method: str = "GET", fields: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own to the plain port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, target, headers=dict(fields or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())

    def nodes_of(self, targets: Iterable[str], *, is_idle: bool = True) -> list[int]:
        """Which node answers each target, one after the other on one connection.

        With `is_idle` nothing else is under way, and nothing of this is when it returns.
        """
        if is_idle:
            self.await_idle()
        found = []
        with Client(self) as client:
            for target in targets:
                client.send(request_of(target))
                found.append(number_of(client.answer().fields))
        if is_idle:
            self.await_idle()
        return found

    def await_idle(self) -> None:
        """Until HAProxy has seen that clients have left: their responses count for the bound.

        Before that a node may be passed over for one more request of its own series.
        """
        while self.busy():
            time.sleep(0.01)  # pytest's time-out ends it

    def command(self, *commands: str) -> str:
        """What the runtime API answers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(self._socket_path)
            sock.sendall((";".join(commands) + "\n").encode())
            with sock.makefile("rb") as file:
                return file.read().decode()

    def servers(self, backend: str = "series") -> dict[int, dict[str, str]]:
        """The rows of `show stat` by node."""
        table = self.command("show stat").removeprefix("# ").splitlines()
        return {
            int(row["svname"].removeprefix("node")): row
            for row in csv.DictReader(table)
            if row["pxname"] == backend and row["svname"].startswith("node")
        }

    def busy(self, backend: str = "series") -> list[int]:
        """The nodes that answer somebody now; of `live`, those that have streams."""
        return [number for number, row in self.servers(backend).items() if row["scur"] != "0"]

    def await_states(self, wanted: Mapping[str, str]) -> None:
        """Until the nodes are in these states; `NODE1` is the name of the first."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            states = {f"NODE{number}": row["status"] for number, row in self.servers().items()}
            # A server that no check has looked at yet counts as up.
            checked = all(row["check_status"] for row in self.servers().values())
            if checked and all(states[name].startswith(state) for name, state in wanted.items()):
                return
            assert time.monotonic() < deadline, states
            time.sleep(0.02)

    def logged(self, text: str) -> str:
        """The log, once it has this text."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while text not in (log := self.log()):
            assert time.monotonic() < deadline, f"not logged: {text}"
            time.sleep(0.02)
        return log

    def log(self) -> str:
        """Every whole line so far."""
        return self.log_path.read_bytes().rpartition(b"\n")[0].decode()


def with_nodes(count: int) -> str:
    """deploy/haproxy.cfg with the field `X-Node`, and as many nodes as are wanted."""
    text = CONFIGURATION.read_text("utf-8")
    text, replaced = re.subn(
        r"^    default_backend series\n",
        r"\g<0>    http-response set-header X-Node %s\n",
        text,
        flags=re.MULTILINE,
    )
    assert replaced == 1
    text = text.replace("maxconn 20000", "maxconn 2000")
    for number in range(CONFIGURED_NODES + 1, count + 1):
        line = rf'    server node{number - 1} "\${{NODE{number - 1}}}" id {number - 1}.*\n'
        found = re.findall(line, text)
        assert len(found) == 2
        for before in found:
            text = text.replace(
                before,
                before + re.sub(rf"\b(node|NODE|id ){number - 1}\b", rf"\g<1>{number}", before),
            )
    return text


def number_of(fields: Mapping[str, str]) -> int:
    """Which node an answer came from, as `X-Node` says."""
    return int(fields["x-node"].removeprefix("node"))


@contextlib.contextmanager
def nodes(root: Path, count: int) -> Iterator[list[Node]]:
    """So many nodes over one directory; they drain side by side."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(Node(root)) for _ in range(count)]
        yield running
        alive = [node.process for node in running if node.process is not None]
        alive = [process for process in alive if process.poll() is None]
        for process in alive:
            process.terminate()
        assert [process.wait(STOP_TIMEOUT_S) for process in alive] == [0] * len(alive)
