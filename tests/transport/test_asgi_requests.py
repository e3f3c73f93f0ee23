"""What AsgiApp makes of a request: its content, its bounds, its method and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.asgi_driver import CONTENT_BYTES_MAX, OLD, REQUEST, Rig, ask, scope_of
from zerocopy.core import counters as slots
from zerocopy.core.endpoints import OTHER
from zerocopy.transport.asgi import REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence


def content(nbytes: int, *, more: bool = True) -> dict[str, Any]:
    """An event of request content."""
    return {"type": "http.request", "body": bytes(nbytes), "more_body": more}


@pytest.mark.parametrize(
    "events",
    [
        [REQUEST],
        [content(CONTENT_BYTES_MAX, more=False)],
        [*[content(100)] * 10, content(0, more=False)],
        [{"type": "http.request"}],
    ],
)
def test_content_within_the_bound_is_dropped(events: Sequence[Any]) -> None:
    """It is read to its end before the answer, and the connection persists."""
    driver = ask(Rig().app, scope_of("/x", **OLD), *events)
    assert driver.received == len(events)
    assert driver.pieces == [b"hello"]
    assert b"connection" not in driver.fields


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False)])
def test_content_above_the_bound_is_read_no_further(version: str, *, closes: bool) -> None:
    """It is answered, and HTTP/1.x is told that nothing more is read from its connection.

    Over HTTP/2 the application goes on to wait for a reset, and drops what comes.
    """
    events = [content(600), content(600), content(600), content(1, more=False)]
    driver = ask(Rig().app, scope_of("/x", http_version=version), *events)
    assert driver.received == (2 if closes else len(events))
    assert driver.pieces == [b"hello"]
    assert driver.is_ended
    assert driver.fields.get(b"connection") == (b"close" if closes else None)


@pytest.mark.parametrize(("nbytes", "received"), [(CONTENT_BYTES_MAX, 1), (1_001, 0)])
def test_announced_content_above_the_bound_is_not_awaited(nbytes: int, received: int) -> None:
    """A Content-Length that is too long is answered at once: the client may wait for 100."""
    headers = [(b"host", b"t"), (b"content-length", b"%d" % nbytes)]
    driver = ask(Rig().app, scope_of("/x", headers=headers, **OLD), content(nbytes, more=False))
    assert driver.received == received
    assert driver.pieces == [b"hello"]
    assert driver.fields.get(b"connection") == (None if received else b"close")


def test_content_that_does_not_come_is_not_awaited_for_ever() -> None:
    """After `content_read_s` the answer is given, and the connection is closed."""
    driver = ask(Rig(content_read_s=0.05).app, scope_of("/x", **OLD), content(1))
    assert driver.received == 1
    assert driver.pieces == [b"hello"]
    assert driver.fields[b"connection"] == b"close"


HOST = (b"host", b"t")
BAD: dict[str, tuple[dict[str, Any], int]] = {
    "target": (scope_of("/" + "x" * 100), 414),
    "target with query": (scope_of("/x?" + "y" * 98), 414),
    "field": (scope_of("/x", headers=[HOST, (b"a", b"x" * 200)]), 431),
    "head": (scope_of("/x", headers=[HOST, *[(b"a", b"x" * 150)] * 4]), 431),
    "count": (scope_of("/x", headers=[(b"a", b"")] * 11), 431),
    "expectation": (scope_of("/x", headers=[HOST, (b"expect", b"200-ok")]), 417),
    "no host": (scope_of("/x", headers=[], **OLD), 400),
    "refused": (scope_of("/x", state={REFUSED: True}), 503),
}


@pytest.mark.parametrize("name", BAD)
def test_bound_is_told_by_its_status(name: str) -> None:
    """What the server let pass and a limit does not is a problem document, and is counted."""
    scope, status = BAD[name]
    rig = Rig()
    driver = ask(rig.app, scope)
    assert driver.status == status
    assert driver.fields[b"content-type"] == b"application/problem+json"
    assert int(driver.fields[b"content-length"]) == len(driver.pieces[0])
    assert not rig.handler.requests
    assert len(rig.handler.refused) == 1
    assert rig.counters[slots.requests_slot(slots.TLS, OTHER, status)] == 1


GOOD = {
    "target": scope_of("/" + "x" * 99),
    "field": scope_of("/x", headers=[HOST, (b"a", b"x" * 199)]),
    "count": scope_of("/x", headers=[(b"a", b"")] * 10),
    "expectation": scope_of("/x", headers=[HOST, (b"expect", b"100-Continue")]),
    "no host in HTTP/1.0": scope_of("/x", headers=[], http_version="1.0"),
    "not refused": scope_of("/x", state={REFUSED: False}),
}


@pytest.mark.parametrize("name", GOOD)
def test_bound_that_is_just_kept_is_no_error(name: str) -> None:
    """At the bound itself a request is answered."""
    assert ask(Rig().app, GOOD[name]).status == 200


@pytest.mark.parametrize(
    ("scope", "method", "target"),
    [
        (scope_of("/x", "GET", state={}), b"GET", b"/x"),
        (scope_of("/ignored", raw_path=b"/a%2Fb?no"), b"GET", b"/a%2Fb"),
        (scope_of("/ü b", raw_path=None), b"GET", b"/%C3%BC%20b"),
        (scope_of("/x", raw_path=b"http://host/y"), b"GET", b"/y"),
        (scope_of("/x?q=%20", raw_path=b"/x"), b"GET", b"/x?q=%20"),
    ],
)
def test_request_is_as_it_was_sent(scope: dict[str, Any], method: bytes, target: bytes) -> None:
    """Target in origin-form and still percent-encoded."""
    rig = Rig()
    ask(rig.app, scope)
    request = rig.handler.requests[0]
    assert (request.method, request.target, request.fields) == (method, target, (HOST,))


def test_raw_path_may_be_missing() -> None:
    """The key is optional in the ASGI specification; the path is quoted then."""
    scope = scope_of("/a b")
    del scope["raw_path"]
    rig = Rig()
    ask(rig.app, scope)
    assert rig.handler.requests[0].target == b"/a%20b"
