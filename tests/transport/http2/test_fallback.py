"""Without the Hypercorn it was written for, the TLS listener serves the same in Hypercorn's way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import hypercorn.asyncio.run as hypercorn_run
import pytest
from h2.connection import H2Connection
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol.h2 import H2Protocol

from tests.h2client import H2Client
from tests.naive import naive_symbols
from tests.server import RunningServer
from tests.ticks import make_ticks, small_end_s, ticks_body, ticks_target
from zerocopy.transport.http2 import server as http2_server
from zerocopy.transport.http2.server import incompatibility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS_PER_DAY = 60_000
SMALL_END_S = small_end_s(RECORDS_PER_DAY)
SMALL = ticks_target(end_s=SMALL_END_S)


def test_installed_versions_fit() -> None:
    """The releases of constraints.txt are those that http2/connection.py was written for."""
    assert incompatibility() is None


@pytest.mark.parametrize("package", ["hypercorn", "h2"])
def test_another_release_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """The reason has the package and the version that was found."""
    found = {"hypercorn": "0.18.0", "h2": "4.3.0", package: "9.9.9"}
    monkeypatch.setattr(http2_server, "version", found.__getitem__)
    reason = incompatibility()
    assert reason is not None
    assert f"{package} 9.9.9 is installed" in reason


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (hypercorn_run, "worker_serve"),
        (H2Protocol, "_send_data"),
        (H2Protocol, "_window_updated"),
        (TCPServer, "_read_data"),
        (TCPServer, "protocol_send"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_attribute_is_named(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """What a patch release might rename is found before the first connection."""
    monkeypatch.delattr(owner, name)
    reason = incompatibility()
    assert reason is not None
    assert reason.endswith(f"has no {name}")


@pytest.mark.parametrize("name", ["outbound_flow_control_window", "_closed_streams", "decoder"])
def test_missing_attribute_of_h2_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The same for what an h2 connection sets when it is made."""

    def make() -> H2Connection:
        connection = H2Connection()
        delattr(connection, name)
        return connection

    monkeypatch.setattr(http2_server, "H2Connection", make)
    assert incompatibility() == f"h2 has no {name}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with 4 KB and 1.4 MB an answer."""
    path = str(tmp_path_factory.mktemp("fallback"))
    make_ticks(path, RECORDS_PER_DAY)
    return path


@pytest.fixture(scope="module")
def server(root: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that finds the metadata of another Hypercorn before those of the installed one."""
    path: Path = tmp_path_factory.mktemp("metadata")
    folder = path / "hypercorn-0.19.0.dist-info"
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\nName: hypercorn\nVersion: 0.19.0\n"
    (folder / "METADATA").write_text(metadata, encoding="ascii")
    with RunningServer(root, USE_TLS="true", PYTHONPATH=str(path)) as running:
        yield running


def test_misfit_is_logged(server: RunningServer) -> None:
    """One warning says what was found and who serves instead."""
    event, *_ = server.logged("http2_misfit")
    assert event["level"] == "warning"
    assert event["reason"] == "hypercorn 0.19.0 is installed, 0.18.x is known"


def test_misfit_serves_the_same_over_http2(server: RunningServer, root: str) -> None:
    """Small and large answers one after the other and at once, HEAD, symbols and a problem."""
    large, small = ticks_body(root), ticks_body(root, end_s=SMALL_END_S)
    with H2Client(server) as client:
        assert client.ask(SMALL).content == small
        assert client.ask(ticks_target()).content == large
        streams = [client.request(target) for target in (ticks_target(), SMALL) * 4]
        for stream_id, expected in zip(streams, [large, small] * 4, strict=True):
            assert client.answer(stream_id).content == expected
        head = client.ask(ticks_target(), "HEAD")
        assert int(head.fields["content-length"]) == len(large)
        assert json.loads(client.ask("/api/symbols").content) == naive_symbols(root)
        assert client.ask("/nowhere").status == 404
        assert client.ask(ticks_target(), "OPTIONS").status == 204
        assert client.ask(ticks_target(), "POST").status == 405


def test_misfit_serves_the_same_over_http1(server: RunningServer, root: str) -> None:
    """HTTP/1.1 over TLS, too."""
    assert server.get(SMALL).content == ticks_body(root, end_s=SMALL_END_S)
    assert server.get(ticks_target()).content == ticks_body(root)
    head = server.get(ticks_target(), method="HEAD")
    assert int(head.fields["content-length"]) == len(ticks_body(root))
    assert server.get("/nowhere").status == 404


def test_fields_are_those_of_the_hooked_server(server: RunningServer, root: str) -> None:
    """A client cannot tell the two by the fields of an answer, but for Date."""
    with RunningServer(root, USE_TLS="true") as hooked:
        assert hooked.event("http2_misfit") is None
        for target in (SMALL, ticks_target(), "/healthz", "/nowhere"):
            fields = []
            for running in (server, hooked):
                with H2Client(running) as client:
                    answer = client.ask(target).fields
                assert answer.pop("date")
                fields.append(answer)
            assert fields[0] == fields[1]
