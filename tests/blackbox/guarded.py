"""A server that takes keys, tokens and tickets, and an issuer that a test changes."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from tests.contract.transports import TRANSPORTS
from tests.faults.client import poll, seal, write_series
from tests.issuing import AUDIENCE, ISSUER, jwk, key_set, token
from tests.server import Answer, ForkedServer
from zerocopy.access.keys import add_key
from zerocopy.core.access import Scope

if TYPE_CHECKING:
    from pathlib import Path

LIVE = "/api/live?symbol=BTC-USD&type=SMALL&columns=time,price&start=0"
SYMBOLS = "/api/symbols"


class Guarded:
    """A server that knows a key set and a key file, both for a test to change."""

    def __init__(self, folder: Path) -> None:
        root = folder / "root"
        write_series(root, "SMALL", 500)
        seal(root, "SMALL")
        self.jwks = folder / "jwks.json"
        self.publish(jwk("ES256", "one"), jwk("RS256", "rsa"), jwk("EdDSA", "ed"))
        self.keys = folder / "keys.json"
        self.key = add_key(str(self.keys), "desk", scope=Scope(symbols=("BTC-*",)))
        self.server = ForkedServer(
            root,
            ZEROCOPY_TLS_PORT="0",
            ZEROCOPY_SERVER_WORKERS="2",
            ZEROCOPY_LOG_ACCESS_SAMPLE="1",
            ZEROCOPY_AUTH_KEYS_PATH=str(self.keys),
            ZEROCOPY_AUTH_JWKS=str(self.jwks),
            ZEROCOPY_AUTH_ISSUER=ISSUER,
            ZEROCOPY_AUTH_AUDIENCE=AUDIENCE,
            ZEROCOPY_AUTH_LEEWAY_S="0",
            ZEROCOPY_AUTH_SCOPE_CLAIM="zerocopy",
        )

    def publish(self, *keys: dict[str, Any]) -> None:
        """Replace the key set whole."""
        beside = self.jwks.with_suffix(".new")
        beside.write_bytes(key_set(*keys))
        beside.replace(self.jwks)

    def status(self, word: str | bytes, target: str = SYMBOLS) -> int:
        """What a request with this bearer word gets, if there is one."""
        return self.server.get(target, fields=bearer(word) if word else None).status

    def wait_for(self, word: str | bytes, status: int, target: str = SYMBOLS) -> None:
        """Until both workers answer so; the log says which of them did."""
        begun = len(self._answered())

        def is_answered_by_both() -> bool:
            if any(self.status(word, target) != status for _ in range(20)):
                return False
            since = self._answered()[begun:]
            return {worker for worker, answer in since if answer == status} >= {0, 1}

        poll(is_answered_by_both, str(status))

    def _answered(self) -> list[tuple[int, int]]:
        """Worker and status of each request in the log."""
        return [
            (int(event["worker"]), int(event["status"]))
            for event in self.server.events()
            if event["event"] == "request" and event["status"] is not None
        ]

    def ticket(self, word: str | bytes) -> str:
        """A new ticket of who has this bearer word."""
        answer = self.server.get("/api/ticket", method="POST", fields=bearer(word))
        assert answer.status == 200, answer
        return str(json.loads(answer.content)["ticket"])


def bearer(word: str | bytes) -> dict[str, str]:
    """The field that brings a key or a token."""
    text = word if isinstance(word, str) else word.decode()
    return {"Authorization": f"Bearer {text}"}


def everything(**others: Any) -> bytes:
    """A token that may see everything."""
    return token(**{"zerocopy": {}, **others})


def ask_by_all(
    guarded: Guarded, target: str, method: str = "GET", **fields: str
) -> dict[str, Answer]:
    """The same request over each transport."""
    answers = {}
    for name, transport in TRANSPORTS.items():
        session = transport.connect(guarded.server)
        try:
            answers[name] = session.request(target, method=method, fields=[*fields.items()])
        finally:
            session.close()
    return answers


def opened(guarded: Guarded, target: str, fields: str = "") -> socket.socket:
    """A stream whose first bytes have come."""
    sock = socket.create_connection(("127.0.0.1", guarded.server.port), 20)
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
    assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
    return sock


def end_of(sock: socket.socket) -> float:
    """The unix second at which a stream ends."""
    with sock:
        while sock.recv(65_536):
            pass
        return time.time()
