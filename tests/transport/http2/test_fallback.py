"""Without the Hypercorn and the h2 it was written for, the TLS listener speaks HTTP/1.1 alone."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from h2.connection import H2Connection
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.protocol.h2 import H2Protocol

from tests.server import ForkedServer, RunningServer
from tests.ticks import make_ticks, small_end_s, ticks_body, ticks_target
from zerocopy.transport.http2 import compatibility
from zerocopy.transport.http2.compatibility import incompatibility

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
    monkeypatch.setattr(compatibility, "version", found.__getitem__)
    reason = incompatibility()
    assert reason is not None
    assert f"{package} 9.9.9 is installed" in reason


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (H2Protocol, "_send_data"),
        (H2Protocol, "_window_updated"),
        (TaskGroup, "spawn_app"),
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

    monkeypatch.setattr(compatibility, "H2Connection", make)
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
    """One warning says what was found and what is spoken."""
    event, *_ = server.logged("http2_misfit")
    assert event["level"] == "warning"
    assert event["reason"] == "hypercorn 0.19.0 is installed, 0.18.x is known"
    assert event["served_by"] == "HTTP/1.1"


@pytest.mark.parametrize(
    ("alpn", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)]
)
def test_client_gets_the_protocol_that_is_spoken(
    server: RunningServer, alpn: list[str], agreed: str | None
) -> None:
    """RFC 7301 section 3.2: one that the client offers; h2 is no longer among the server's."""
    with server.connect_tls(alpn) as sock:
        assert sock.selected_alpn_protocol() == agreed


def test_client_that_speaks_http2_alone_is_told(server: RunningServer) -> None:
    """RFC 7301 section 3.2: no_application_protocol, and no answer in another protocol."""
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        server.connect_tls(["h2"])


def test_misfit_serves_the_same_over_http1(server: RunningServer, root: str) -> None:
    """Small and large answers, HEAD and a problem, with the fields of the server that fits."""
    assert server.get(SMALL).content == ticks_body(root, end_s=SMALL_END_S)
    assert server.get(ticks_target()).content == ticks_body(root)
    head = server.get(ticks_target(), method="HEAD")
    assert int(head.fields["content-length"]) == len(ticks_body(root))
    assert server.get("/nowhere").status == 404
    with ForkedServer(root, USE_TLS="true") as fitting:
        assert fitting.event("http2_misfit") is None
        for target in (SMALL, ticks_target(), "/healthz", "/nowhere"):
            fields = [running.get(target).fields for running in (server, fitting)]
            assert all(answer.pop("date") for answer in fields)
            assert fields[0] == fields[1]
