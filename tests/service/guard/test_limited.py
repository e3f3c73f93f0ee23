"""Requests an address: which address a request has, and that each counts once."""

from __future__ import annotations

import asyncio
import os
from array import array
from typing import TYPE_CHECKING

import pytest

from zerocopy.access.limits import Limits
from zerocopy.access.shared_counts import SharedCounts, add_rows, make_counts
from zerocopy.core import counters as slots
from zerocopy.core.errors import LimitedError
from zerocopy.core.http.messages import Request, Response, Unlimited
from zerocopy.core.network import network_of
from zerocopy.service.guard.limited import LimitedService
from zerocopy.service.problems import problem_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.core.window import Window

MOST = 3
DATA = b"/api/data?symbol=BTC-USD"
ANSWER = Response(200, ((b"ETag", b'"kept"'),), b"kept")


class Answering(Unlimited):
    """A handler that has what was kept, or has to be waited for."""

    def __init__(self) -> None:
        self.is_kept = True
        self.waited = 0

    def respond_now(self, _request: Request, _times: int = 1) -> Response | None:
        """What was kept."""
        return ANSWER if self.is_kept else None

    async def respond(self, _request: Request) -> Response:
        """The same, later."""
        self.waited += 1
        return ANSWER

    def count_reused(self, times: int) -> None:
        """Nobody asks."""

    async def prepare(self, window: Window) -> None:
        """Nothing is read."""

    def refuse(self, error: Exception) -> Response:
        """As the service."""
        return problem_response(error)


class Server:
    """The service under test, over a handler that it cannot exhaust."""

    def __init__(self, field: str | None = None) -> None:
        self.fd = make_counts()
        add_rows(self.fd, 2)
        self.counters = array("Q", bytes(8 * len(slots.SLOTS)))
        self.handler = Answering()
        limits = Limits(
            SharedCounts(self.fd, 1), self.counters, per_address_max=MOST, clock=lambda: 1_000.5
        )
        self.service = LimitedService(self.handler, limits, field)

    def ask(self, host: str | None = "192.0.2.1", target: bytes = DATA, **fields: str) -> int:
        """The status of one request, whichever way it takes; without a host its peer has left."""
        named = ((name.replace("_", "-").encode(), v.encode()) for name, v in fields.items())
        network = b"" if host is None else network_of(host)
        request = Request(b"GET", target, tuple(named), network=network)

        async def answer() -> int:
            response = self.service.respond_now(request) or await self.service.respond(request)
            return response.status

        return asyncio.run(answer())


@pytest.fixture
def server() -> Iterator[Server]:
    """One without a proxy."""
    made = Server()
    yield made
    os.close(made.fd)


@pytest.fixture
def behind() -> Iterator[Server]:
    """One behind a proxy that tells the address."""
    made = Server("CF-Connecting-IP")
    yield made
    os.close(made.fd)


def test_the_peer_of_the_connection_counts(server: Server) -> None:
    """Each network has its own requests; an IPv6 network is a /64."""
    assert [server.ask() for _ in range(MOST + 2)] == [200] * MOST + [429] * 2
    assert server.ask("192.0.2.2") == 200
    assert [server.ask(f"2001:db8::{n}") for n in range(1, MOST + 2)] == [200] * MOST + [429]
    assert server.ask("2001:db8:0:1::1") == 200
    assert server.counters[slots.LIMITED_ADDRESS] == 3


def test_what_was_kept_is_given_to_a_peer_without_waiting(server: Server) -> None:
    """A limit of addresses costs nobody the short way."""
    assert [server.ask(f"192.0.2.{n}") for n in range(20)] == [200] * 20
    assert server.handler.waited == 0


def test_who_has_left_counts_with_all_who_have(server: Server) -> None:
    """Their sockets tell no address any more."""
    assert [server.ask(None) for _ in range(MOST + 1)] == [200] * MOST + [429]


def test_the_address_of_a_proxy_counts_on_both_ways(behind: Server) -> None:
    """What was kept and what has to be waited for, together; a refused request has asked nobody."""
    for host in ("198.51.100.1", "198.51.100.2"):
        behind.handler.is_kept = True
        assert [behind.ask(cf_connecting_ip=host) for _ in range(MOST - 1)] == [200] * (MOST - 1)
        behind.handler.is_kept, behind.handler.waited = False, 0
        assert [behind.ask(cf_connecting_ip=host) for _ in range(3)] == [200, 429, 429]
        assert behind.handler.waited == 1
        behind.handler.is_kept = True
        assert behind.ask(cf_connecting_ip=host) == 429


def test_equal_requests_of_one_turn_count_each(behind: Server) -> None:
    """All of them, or none: then each asks alone."""
    request = Request(b"GET", DATA, ((b"cf-connecting-ip", b"198.51.100.1"),))
    assert behind.service.respond_now(request, MOST + 1) is None
    assert behind.service.respond_now(request, MOST) is ANSWER
    assert behind.service.respond_now(request) is None


@pytest.mark.parametrize("told", ["", "unknown", "198.51.100.1, 203.0.113.9", "\xff"])
def test_a_field_that_tells_no_address_leaves_the_peer(behind: Server, told: str) -> None:
    """Nobody escapes by what it writes there."""
    assert [behind.ask(cf_connecting_ip=told) for _ in range(MOST + 1)] == [200] * MOST + [429]


def test_without_the_field_the_peer_counts(behind: Server) -> None:
    """Such as a client that has found its way past the proxy."""
    assert [behind.ask() for _ in range(MOST + 1)] == [200] * MOST + [429]


@pytest.mark.parametrize("target", [b"/healthz", b"/readyz", b"/", b"/ui/page.js"])
def test_probes_and_the_page_are_free(server: Server, target: bytes) -> None:
    """A probe that is refused would have a server restarted."""
    assert {server.ask(target=target) for _ in range(3 * MOST)} == {200}
    assert not server.service.counts(Request(b"GET", target, ()))
    assert server.service.counts(Request(b"GET", DATA, ()))


def test_the_refusal_is_told_by_the_handler(server: Server) -> None:
    """It names the policy, and what is left that was not enough."""
    for _ in range(MOST):
        server.ask()
    response = server.service.refuse(
        LimitedError("no", policy="address", quota=MOST, window_s=1, retry_s=1, left=2)
    )
    assert (b"RateLimit-Policy", b'"address";q=3;w=1') in response.fields
    assert (b"RateLimit", b'"address";r=2;t=1') in response.fields
