"""Requests that two readers could cut differently, sent through a proxy to the server behind it.

Whatever a proxy makes of such bytes (it refuses most of them itself), the server must never see a
request that the proxy did not mean to send: or the next client would get the answer to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.client import SMALL, Client, body_of, request_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"
CHUNKED_END = b"0\r\n\r\n"


def attack(*fields: str, content: bytes, method: str = "GET") -> bytes:
    """A request for SMALL with odd framing, and what an attacker hides in or behind its content."""
    return request_of(SMALL, *fields, method=method) + content


ATTACKS = {
    "length and chunks": attack(
        f"Content-Length: {len(CHUNKED_END + HIDDEN)}",
        "Transfer-Encoding: chunked",
        content=CHUNKED_END + HIDDEN,
    ),
    "chunks and length": attack(
        "Transfer-Encoding: chunked", "Content-Length: 4", content=b"24\r\n" + HIDDEN + CHUNKED_END
    ),
    "two lengths": attack("Content-Length: 0", f"Content-Length: {len(HIDDEN)}", content=HIDDEN),
    "a list of lengths": attack(f"Content-Length: 0, {len(HIDDEN)}", content=HIDDEN),
    "a length with a sign": attack(f"Content-Length: +{len(HIDDEN)}", content=HIDDEN),
    "a blank before the colon": attack(
        "Transfer-Encoding : chunked", f"Content-Length: {len(HIDDEN)}", content=HIDDEN
    ),
    "a folded coding": attack(
        "Transfer-Encoding:\r\n chunked",
        f"Content-Length: {len(CHUNKED_END + HIDDEN)}",
        content=CHUNKED_END + HIDDEN,
    ),
    "an unknown coding": attack(
        "Transfer-Encoding: xchunked", f"Content-Length: {len(HIDDEN)}", content=HIDDEN
    ),
    "two codings": attack("Transfer-Encoding: chunked, identity", content=CHUNKED_END + HIDDEN),
    "a coding with a vertical tab": attack(
        "Transfer-Encoding: \x0bchunked",
        f"Content-Length: {len(CHUNKED_END + HIDDEN)}",
        content=CHUNKED_END + HIDDEN,
    ),
    "a chunk size out of bounds": attack(
        "Transfer-Encoding: chunked", content=b"10000000000000000\r\n" + HIDDEN
    ),
    "a chunk extension with a bare LF": attack(
        "Transfer-Encoding: chunked", content=b"0;a\n\r\n" + HIDDEN
    ),
    "a bare LF": b"GET " + SMALL.encode() + b" HTTP/1.1\nHost: t\n\n" + HIDDEN,
    "content of a GET that is a request": attack(f"Content-Length: {len(HIDDEN)}", content=HIDDEN),
    "chunked content of a GET": attack(
        "Transfer-Encoding: chunked", content=b"24\r\n" + HIDDEN + b"\r\n" + CHUNKED_END
    ),
    "content of an upgrade": attack(
        "Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(HIDDEN)}", content=HIDDEN
    ),
    "an expectation": attack(
        "Expect: 100-continue", f"Content-Length: {len(HIDDEN)}", content=HIDDEN
    ),
    "version 1.0 with chunks": request_of(SMALL, "Transfer-Encoding: chunked", version="1.0")
    + CHUNKED_END
    + HIDDEN,
    "an absolute target of another host": request_of(f"http://other{SMALL}") + HIDDEN,
}


@pytest.mark.parametrize("case", ATTACKS)
def test_next_clients_get_their_own_answers(proxy: ReverseProxy, root: Path, case: str) -> None:
    """After an attack, on connections that the proxy shares, honest answers are the right ones."""
    body = body_of(root, "SMALL")
    with Client(proxy) as attacker:
        attacker.send(ATTACKS[case])
        for _ in range(3):
            with Client(proxy) as honest:
                honest.send(request_of(SMALL))
                answer = honest.answer()
                assert (answer.status, answer.content) == (200, body)
