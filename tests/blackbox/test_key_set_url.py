"""The real command with a key set at an URL: away, back, rotated, too old; and reloads."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.blackbox.reloading import count_of
from tests.faults.client import poll, seal, write_series
from tests.issuing import AUDIENCE, ISSUER, jwk, key_set, token
from tests.issuing_server import KeySetServer, trust_file
from tests.server import Answer, ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = key_set(jwk("ES256", "one"))
SYMBOLS = "/api/symbols"
LIVE = "/api/live?symbol=BTC-USD&type=SMALL&columns=time,price&start=0"


class Issued(NamedTuple):
    """A server, its issuer, and what a token got before there was a key set."""

    server: RunningServer
    issuer: KeySetServer
    early: Answer


@pytest.fixture(name="issued", scope="module")
def fixture_issued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issued]:
    """Two workers; a set is fetched each second, and holds for two without its source.

    The source answers once the server runs.
    """
    folder = tmp_path_factory.mktemp("issuer")
    write_series(folder, "SMALL", 500)
    seal(folder, "SMALL")
    with KeySetServer(ONE) as issuer:
        issuer.close()
        with ForkedServer(
            folder,
            SSL_CERT_FILE=trust_file(tmp_path_factory.mktemp("trust")),
            ZEROCOPY_SERVER_WORKERS="2",
            ZEROCOPY_AUTH_JWKS=issuer.url,
            ZEROCOPY_AUTH_ISSUER=ISSUER,
            ZEROCOPY_AUTH_AUDIENCE=AUDIENCE,
            ZEROCOPY_AUTH_JWKS_REFRESH_S="1",
            ZEROCOPY_AUTH_JWKS_STALE_S="1",
        ) as server:
            early = server.get(SYMBOLS, fields=bearer(token()))
            server.logged("key_set_not_fetched")
            issuer.open()
            wait_for(server, token(), 200)
            yield Issued(server, issuer, early)


def bearer(word: bytes) -> dict[str, str]:
    """The field that brings a token."""
    return {"Authorization": f"Bearer {word.decode()}"}


def status(server: RunningServer, word: bytes, target: str = SYMBOLS) -> int:
    """What a request with this token gets."""
    return server.get(target, fields=bearer(word)).status


def wait_for(server: RunningServer, word: bytes, wanted: int) -> None:
    """Until both workers answer so: of twenty connections each has some."""
    poll(lambda: all(status(server, word) == wanted for _ in range(20)), str(wanted))


def test_until_the_first_set_is_there_nobody_can_tell(issued: Issued) -> None:
    """503 with Retry-After; then the source comes, and the same token opens."""
    server, issuer, early = issued
    assert early.status == 503
    assert int(early.fields["retry-after"]) >= 1
    assert "keys of tokens" in json.loads(early.content)["detail"]
    assert server.get(SYMBOLS).status == 401
    assert server.logged("key_set_not_fetched")[0]["url"] == issuer.url
    assert server.logged("key_set_fetched")[0]["url"] == issuer.url
    assert server.metric("zerocopy_jwks_age_seconds") < 60
    assert server.metric('zerocopy_jwks_fetches_total{result="failed"}') >= 1


def test_a_new_key_comes_and_an_old_one_goes(issued: Issued) -> None:
    """Rotation: a token of a key that is new is taken soon, one of a key that left is not."""
    server, issuer, _ = issued
    old, new = token(), token("EdDSA", "two")
    wait_for(server, old, 200)
    assert status(server, new) == 401
    issuer.document = key_set(jwk("ES256", "one"), jwk("EdDSA", "two"))
    wait_for(server, new, 200)
    assert status(server, old) == 200
    issuer.document = key_set(jwk("EdDSA", "two"))
    wait_for(server, old, 401)
    assert status(server, new) == 200
    issuer.document = ONE
    wait_for(server, old, 200)


def test_a_set_too_old_is_503_and_ends_streams_until_its_source_is_back(issued: Issued) -> None:
    """Nobody can say meanwhile whether its keys are still good."""
    server, issuer, _ = issued
    word = token()
    wait_for(server, word, 200)
    with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
        sock.sendall(
            f"GET {LIVE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ".encode()
            + word
            + b"\r\n\r\n"
        )
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        issuer.close()
        while sock.recv(65_536):
            pass
    wait_for(server, word, 503)
    issuer.open()
    wait_for(server, word, 200)


def test_tickets_and_key_set_outlive_a_reload(issued: Issued) -> None:
    """The new workers have the secret of the old, and what was fetched."""
    server = issued.server
    word = token()
    wait_for(server, word, 200)
    answer = server.get("/api/ticket", method="POST", fields=bearer(word))
    ticket = json.loads(answer.content)["ticket"]
    before = server.worker_pids()
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: count_of(server, "reloaded") == 1, "reloaded")
    for _ in range(20):
        assert server.get(f"{SYMBOLS}?ticket={ticket}").status == 200
    poll(lambda: set(server.worker_pids()).isdisjoint(before), "only new workers")
    wait_for(server, word, 200)
