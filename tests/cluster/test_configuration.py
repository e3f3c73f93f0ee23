"""deploy/haproxy.cfg as it is: HAProxy accepts it, and its numbers fit those of the server."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from bench.cluster_ring import WEIGHT
from tests.certificate import certificate_files
from tests.cluster.front import CONFIGURATION, HAPROXY, with_nodes
from zerocopy.config.load import Config

if TYPE_CHECKING:
    from pathlib import Path

TEXT = CONFIGURATION.read_text("utf-8")
NODES = [("1", "1"), ("2", "2"), ("3", "3")]


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")
def test_haproxy_finds_nothing_to_warn_of(tmp_path: Path) -> None:
    """The file itself, and the tests' copy with more nodes."""
    assert HAPROXY is not None
    more = tmp_path / "more.cfg"
    more.write_text(with_nodes(5), "utf-8")
    environ = {"FRONT_CERT": certificate_files()[0], "FRONT_SOCKET": str(tmp_path / "admin.sock")}
    for path, others in ((CONFIGURATION, {}), (more, {"NODE4": "127.0.0.1:1", "NODE5": "[::1]:1"})):
        done = subprocess.run(
            [HAPROXY, "-c", "-f", path],
            env={**os.environ, **environ, **others},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_both_backends_have_the_same_nodes_by_the_same_ids() -> None:
    """A series' stream is then where its data is, and the ring stays as it is in every HAProxy."""
    found = re.findall(r"^    server node(\d) \"\$\{NODE\d\}\" id (\d)", TEXT, re.MULTILINE)
    assert found == NODES + NODES
    assert re.findall(r"weight (\d+)", TEXT.partition("\nbackend series\n")[2]) == [str(WEIGHT)] * 2
    assert re.findall(r"track series/node(\d)", TEXT) == ["1", "2", "3"]


def test_bounds_and_deadlines_fit_those_of_the_server() -> None:
    """The node is the first to cut off who stalls; the front queues before the node refuses."""
    config = Config()
    seconds = dict(re.findall(r"^    timeout ([a-z-]+) +(\d+)s", TEXT, re.MULTILINE))
    assert float(seconds["client"]) > config.timeouts.write_progress_s * 1.25
    for name in ("server", "tunnel"):
        assert float(seconds[name]) >= 4 * config.live.heartbeat_s
    assert float(seconds["http-request"]) >= config.timeouts.header_read_s
    of_data, of_live = (
        int(re.findall(r" maxconn (\d+)", TEXT.partition(f"\nbackend {name}\n")[2])[0])
        for name in ("series", "live")
    )
    assert of_data < config.limits.requests_in_flight_max
    assert of_live <= config.live.subscribers_max


def test_each_server_line_has_the_timeout_of_unacknowledged_bytes() -> None:
    """HAProxy 2.6 takes `tcp-ut` from there alone: see `test_partitions.py` for what it is for."""
    lines = re.findall(r"^    (?:default-)?server .*", TEXT, re.MULTILINE)
    assert [" tcp-ut 5s" in line for line in lines] == [
        not line.startswith("    d") for line in lines
    ]
