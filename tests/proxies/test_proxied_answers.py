"""What comes through a proxy is the answer of the server, field by field and byte by byte.

A proxy may add fields of its own and must drop those of its connection (RFC 9110 section 7.6.1);
everything else that differs would be something in our answers that it had to repair.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import LARGE, MEDIUM, SMALL, Client, body_of, request_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy
    from tests.server import Answer, RunningServer

OF_THE_MOMENT = {"date", "connection", "keep-alive", "via"}

CLOUDFLARE_FIELDS = {
    "Accept-Encoding": "gzip, br",
    "Cdn-Loop": "cloudflare; loops=1",
    "Cf-Connecting-Ip": "203.0.113.7",
    "Cf-Ipcountry": "NL",
    "Cf-Ray": "8f1c2d3e4a5b6c7d-AMS",
    "Cf-Visitor": '{"scheme":"https"}',
    "Cf-Warp-Tag-Id": "00000000-0000-4000-8000-000000000000",
    "Cookie": "CF_Authorization=" + "x" * 2_000,
    "Cf-Access-Jwt-Assertion": "y" * 2_000,
    "Connection": "keep-alive",
    "User-Agent": "",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Host": "data.example.com",
    "X-Forwarded-Proto": "https",
}
"""What an origin behind a tunnel is sent, with the two large fields of Cloudflare Access."""

SPECIMENS: dict[str, tuple[str, str, dict[str, str]]] = {
    "closed day": ("GET", SMALL, {}),
    "open day": ("GET", MEDIUM, {}),
    "head": ("HEAD", MEDIUM, {}),
    "range": ("GET", MEDIUM, {"Range": "bytes=100-90099"}),
    "last bytes": ("GET", MEDIUM, {"Range": "bytes=-5"}),
    "parts": ("GET", SMALL, {"Range": "bytes=0-9,100-199,-7"}),
    "range not satisfiable": ("GET", SMALL, {"Range": "bytes=999999-"}),
    "not modified": ("GET", SMALL, {"If-None-Match": "*"}),
    "precondition failed": ("GET", SMALL, {"If-Match": '"other"'}),
    "range of another state": ("GET", SMALL, {"If-Range": '"other"', "Range": "bytes=0-9"}),
    "preflight": (
        "OPTIONS",
        SMALL,
        {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"},
    ),
    "bad parameter": ("GET", SMALL + "&start=x", {}),
    "unknown symbol": ("GET", SMALL.replace("BTC-USD", "NO-SUCH"), {}),
    "unknown path": ("GET", "/nothing", {}),
    "other method": ("DELETE", SMALL, {}),
    "long target": ("GET", SMALL + "&x=" + "x" * 9_000, {}),
    "long field": ("GET", SMALL, {"X-Long": "x" * 9_000}),
    "symbols": ("GET", "/api/symbols", {}),
    "fields of cloudflare": ("GET", SMALL, CLOUDFLARE_FIELDS),
    "columns to one who takes gzip": ("GET", MEDIUM, {"Accept-Encoding": "gzip"}),
    **{
        f"{what} in {coding}": ("GET", target, {"Accept-Encoding": coding, **fields})
        for coding in ("gzip", "zstd")
        for what, target, fields in (
            ("text", MEDIUM + "&format=json", {}),
            ("a part of text", MEDIUM + "&format=json", {"Range": "bytes=100-90099"}),
            ("the page", "/", {}),
        )
    },
    "columns in zstd": ("GET", MEDIUM + "&compress=zstd", {"Accept-Encoding": "zstd"}),
}


def lasting(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """An answer without the fields that a proxy owns and those that tell the time."""
    fields = {name: value for name, value in answer.fields.items() if name not in OF_THE_MOMENT}
    if "no-cache" in fields.get("cache-control", ""):
        # The files of an open day are from tomorrow, so it says when its worker made the response.
        fields.pop("last-modified", None)
    # Each worker has a boundary of its own between the parts of a multipart answer.
    kind, _, boundary = fields.get("content-type", "").partition("; boundary=")
    if not boundary:
        return answer.status, fields, answer.content
    return (
        answer.status,
        {**fields, "content-type": kind},
        answer.content.replace(boundary.encode(), b"-"),
    )


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_answer_comes_through_as_it_is(
    server: RunningServer, proxy: ReverseProxy, specimen: str
) -> None:
    """Status, fields and content are those of the server; nothing is chunked, coded or mended."""
    method, target, fields = SPECIMENS[specimen]
    direct = server.get(target, method=method, fields=fields)
    proxied = proxy.get(target, method=method, fields=fields)
    assert lasting(proxied) == lasting(direct)
    assert "transfer-encoding" not in proxied.fields
    asked = fields.get("Accept-Encoding", "") if " in " in specimen else None
    assert proxied.fields.get("content-encoding") == asked


def test_large_answer_comes_whole_and_with_its_length(proxy: ReverseProxy, root: Path) -> None:
    """16 MB arrive byte for byte, and the client is told how many before."""
    answer = proxy.get(LARGE)
    expected = body_of(root, "LARGE", ["price"])
    assert answer.status == 200
    assert answer.fields["content-length"] == str(len(expected))
    assert answer.content == expected


def test_pipelined_requests_are_answered_in_order(proxy: ReverseProxy, root: Path) -> None:
    """Requests that arrive in one packet get their own answers, whatever came between."""
    bodies = {SMALL: body_of(root, "SMALL"), MEDIUM: body_of(root, "MEDIUM")}
    asked = [SMALL, MEDIUM, "/nothing", SMALL, MEDIUM]
    with Client(proxy) as client:
        client.send(*map(request_of, asked))
        for target in asked:
            answer = client.answer()
            assert answer.content == bodies.get(target, answer.content)
            assert answer.status == (200 if target in bodies else 404)


def test_parallel_clients_get_their_own_answers(proxy: ReverseProxy, root: Path) -> None:
    """Clients that share connections to the server never get each other's bytes."""
    bodies = {SMALL: body_of(root, "SMALL"), MEDIUM: body_of(root, "MEDIUM")}
    wrong: list[tuple[str, int]] = []

    def ask(turn: int) -> None:
        with Client(proxy) as client:
            for index in range(20):
                target = (SMALL, MEDIUM)[(turn + index) % 2]
                client.send(request_of(target))
                answer = client.answer()
                if (answer.status, answer.content) != (200, bodies[target]):
                    wrong.append((target, answer.status))

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
