"""The real service as an ASGI application, without any server: every route and whole answers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.naive import naive_symbols
from tests.table import each
from tests.ticks import make_ticks, small_end_s, ticks_body, ticks_target
from tests.transport.asgi_driver import ask, scope_of
from zerocopy.config.load import load
from zerocopy.core.counters import SLOTS
from zerocopy.supervise.compose import build_service
from zerocopy.supervise.compose_tls import build_app
from zerocopy.transport.asgi import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.transport.asgi import AsgiApp

RECORDS_PER_DAY = 60_000
SMALL_END_S = small_end_s(RECORDS_PER_DAY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with 1.4 MB an answer."""
    path = str(tmp_path_factory.mktemp("asgi"))
    make_ticks(path, RECORDS_PER_DAY)
    return path


@pytest.fixture(scope="module")
def app(root: str) -> Iterator[AsgiApp]:
    """The application as a worker with TLS builds it: day files are mapped."""
    environ = {"DATA_PATH": root, "USE_TLS": "true", "SSL_CERT_PATH": "c", "SSL_PRIVATE_FILE": "k"}
    config = load(os.devnull, environ=environ)
    counters = [0] * len(SLOTS)
    with ThreadPoolExecutor(config.limits.planner_threads) as executor:
        yield build_app(build_service(config, counters, executor), config, counters)


@pytest.mark.parametrize("columns", ["time,price", "price", "price,time"])
def test_whole_answer_is_the_oracles(app: AsgiApp, root: str, columns: str) -> None:
    """Six segments in bounded pieces make the body that the contract promises, twice."""
    expected = ticks_body(root, columns=columns)
    for _ in range(2):
        driver = ask(app, scope_of(ticks_target(columns=columns)))
        assert driver.status == 200
        assert b"".join(driver.pieces) == expected
        assert driver.is_ended
        assert max(map(len, driver.pieces)) <= PIECE_BYTES
        assert int(driver.fields[b"content-length"]) == len(expected)


def test_small_answer_is_one_piece(app: AsgiApp, root: str) -> None:
    """An answer from memory is a single event."""
    driver = ask(app, scope_of(ticks_target(end_s=SMALL_END_S)))
    assert driver.pieces == [ticks_body(root, end_s=SMALL_END_S)]


def test_head_has_the_fields_of_get(app: AsgiApp) -> None:
    """All of them, but no content."""
    get = ask(app, scope_of(ticks_target()))
    head = ask(app, scope_of(ticks_target(), "HEAD"))
    assert head.fields == get.fields
    assert head.pieces == [b""]


@each(
    ("target", "method", "status", "content_type"),
    [
        ("/healthz", "GET", 200, b"application/json"),
        ("/readyz", "GET", 200, b"application/json"),
        ("/openapi.json", "GET", 200, b"application/json"),
        ("/api/symbols", "GET", 200, b"application/json"),
        ("/api/symbols?exchange=none", "GET", 200, b"application/json"),
        ("/api/data", "GET", 400, b"application/problem+json"),
        ("/nowhere", "GET", 404, b"application/problem+json"),
        ("/api/data", "POST", 405, b"application/problem+json"),
        ("/api/data", "OPTIONS", 204, None),
        ("*", "OPTIONS", 204, None),
    ],
)
def test_every_route_answers(
    app: AsgiApp, target: str, method: str, status: int, content_type: bytes | None
) -> None:
    """Status, type and length of each; any origin may read it."""
    driver = ask(app, scope_of(target, method))
    assert driver.status == status
    assert driver.fields.get(b"content-type") == content_type
    assert driver.fields[b"access-control-allow-origin"] == b"*"
    assert driver.fields[b"server"] == b"zerocopy"
    assert b"connection" not in driver.fields
    body = b"".join(driver.pieces)
    if status == 204:
        assert b"content-length" not in driver.fields
        assert not body
    else:
        assert int(driver.fields[b"content-length"]) == len(body)
        assert json.loads(body)


def test_symbols_are_the_oracles(app: AsgiApp, root: str) -> None:
    """The document lists what is there."""
    driver = ask(app, scope_of("/api/symbols"))
    assert json.loads(driver.pieces[0]) == naive_symbols(root)
