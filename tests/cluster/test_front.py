"""What HAProxy itself adds: TLS and HTTP/2, events without delay, its errors, log and metrics."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, cast

import pytest

from tests.certificate import authority
from tests.client.ticker import Ticker
from tests.faults.client import LARGE, SMALL, Client, body_of, request_of
from tests.h2client import H2Client
from tests.subscribers import Feed, by_httpx_sse, by_websockets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.front import Front, Node
    from tests.server import RunningServer


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_tls_and_http2_end_at_the_front(front: Front, root: Path, tmp_path: Path) -> None:
    """16 MB by both protocols over TLS are the bytes that the node has."""
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for version in ("2", "1.1"):
        done = subprocess.run(
            [
                *("curl", "-sS", f"--http{version}", "--cacert", tmp_path / "ca.pem"),
                *("-o", tmp_path / "body", "-w", "%{http_version} %{http_code}"),
                f"https://127.0.0.1:{front.tls_port}{LARGE}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{version} 200"
        assert (tmp_path / "body").read_bytes() == body_of(root, "LARGE", ["price"])


def test_events_and_messages_pass_at_once(front: Front, root: Path) -> None:
    """Each record reaches streams of both kinds before the next one is appended."""
    with Feed(root, "FED") as feed:
        feed.subscribe(front.port, by_httpx_sse, by_websockets)
        for _ in range(20):
            feed.append()
    feed.assert_exact()


def test_websocket_over_http2_passes(front: Front, root: Path) -> None:
    """Extended CONNECT (RFC 8441), as browsers do it: a binary message brings what was appended."""
    ticker = Ticker(root, "SOCKET")
    with H2Client(cast("RunningServer", front)) as client:
        pseudo = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "https",
            ":authority": client.authority,
            ":path": "/api/live?symbol=SOCKET&type=MD&columns=price",
        }
        fields = [("sec-websocket-version", "13")]
        stream_id = client.request("", "CONNECT", fields, end_stream=False, pseudo=pseudo)
        stream = client.streams[stream_id]
        client.pump(lambda: stream.status != 0, "a status")
        assert stream.status == 200
        ticker.append(3)
        prices = struct.pack("<3f", 0, 1, 2)
        client.pump(lambda: stream.content.endswith(prices), "three records")
        assert stream.content[0] == 0x82, "a whole binary message"


def test_conditions_and_ranges_pass(front: Front, root: Path) -> None:
    """304, 206, 416 and HEAD are what the node says."""
    body = body_of(root, "SMALL")
    tag = front.get(SMALL).fields["etag"]
    assert front.get(SMALL, fields={"If-None-Match": tag}).status == 304
    part = front.get(SMALL, fields={"Range": "bytes=10-19", "If-Range": tag})
    assert (part.status, part.content) == (206, body[10:20])
    assert front.get(SMALL, fields={"Range": f"bytes={len(body)}-"}).status == 416
    assert front.get(SMALL, method="HEAD").fields["content-length"] == str(len(body))


def test_front_that_has_no_node_asks_to_come_again(front: Front, three: list[Node]) -> None:
    """503 as the contract has it: problem+json, Retry-After; the front is not ready itself."""
    numbers = range(1, len(three) + 1)
    ready = f"http://127.0.0.1:{front.metrics_port}/readyz"
    assert urllib.request.urlopen(ready, timeout=10).status == 200
    front.command(*(f"set server series/node{number} state maint" for number in numbers))
    try:
        answer = front.get(SMALL)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(ready, timeout=10)
    finally:
        front.command(*(f"set server series/node{number} state ready" for number in numbers))
        front.await_states({f"NODE{number}": "UP" for number in numbers})
    assert answer.status == 503
    assert answer.fields["content-type"] == "application/problem+json"
    assert answer.fields["retry-after"] == "1"
    assert answer.fields["access-control-allow-origin"] == "*"
    assert json.loads(answer.content)["status"] == 503


def test_log_names_node_and_series_and_no_secret(front: Front) -> None:
    """A line for each request, without its query: a ticket may stand there."""
    with Client(front) as client:
        client.send(request_of("/api/data?symbol=LOGGED&type=MD&ticket=SECRET&key=SECRET"))
        client.answer()
        client.send(request_of("/api/data?symbol=%0AFORGED%20x&type=MD"))
        client.answer()
        client.send(request_of("/api/data?symbol=LAST&type=MD"))
        client.answer()
    log = front.logged("coinbase/LAST")
    assert re.search(r"GET /api/data coinbase/LOGGED 400 .* series/node[123] ", log)
    assert "SECRET" not in front.log()
    assert "FORGED" not in front.log()


def test_metrics_tell_each_node(front: Front) -> None:
    """Prometheus gets the state and the sessions of every node; nothing else is served there."""
    url = f"http://127.0.0.1:{front.metrics_port}"
    page = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    for number in (1, 2, 3):
        labels = f'proxy="series",server="node{number}"'
        assert f'haproxy_server_status{{{labels},state="UP"}} 1' in page
        assert re.search(rf"^haproxy_server_sessions_total{{{labels}}} \d", page, re.MULTILINE)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/", timeout=10)
