"""`Response`: bytes of a body as they come, and how long is waited for them."""

from __future__ import annotations

import signal
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.client.liar import BODY, WHOLE, Liar, Say, chunked, cut
from zerocopy.client.response import Response


def connected(liar: Liar, timeout_s: float = 20) -> HTTPConnection:
    """As the pool makes them."""
    at = urlsplit(liar.url)
    connection = HTTPConnection(at.hostname or "", at.port, timeout=timeout_s)
    connection.response_class = Response
    return connection


def ask(connection: HTTPConnection) -> Response:
    """A request; its response."""
    connection.request("GET", "/")
    response = connection.getresponse()
    assert isinstance(response, Response)
    return response


def test_the_kernel_keeps_the_time_of_a_body_and_of_nothing_else() -> None:
    """The connection is kept, and the next head is waited for as before."""
    with Liar(Say(WHOLE)) as liar, closing(connected(liar)) as connection:
        for _ in range(2):
            response, body = ask(connection), memoryview(bytearray(len(BODY)))
            assert connection.sock.gettimeout() == 20
            with response.waiting_in_kernel():
                assert connection.sock.gettimeout() is None
                at = 0
                while count := response.read_some(body[at:]):
                    at += count
            assert connection.sock.gettimeout() == 20
            assert bytes(body) == BODY
            assert not response.read(1)


def test_chunks_are_read_by_http_client() -> None:
    """It would take a socket that has nothing for a break."""
    with Liar(Say(chunked(BODY))) as liar, closing(connected(liar)) as connection:
        response, at = ask(connection), 0
        with response.waiting_in_kernel():
            assert connection.sock.gettimeout() == 20
            while count := response.read_some(memoryview(bytearray(len(BODY)))):
                at += count
        assert at == len(BODY)


def test_silence_amid_a_body_is_a_timeout() -> None:
    """What came before it was given, to the last byte."""
    with Liar(Say(cut(1_000), "hold")) as liar, closing(connected(liar)) as connection:
        response, at = ask(connection), 0
        with response.waiting_in_kernel():
            while at < 1_000:
                at += response.read_some(memoryview(bytearray(len(BODY))))
        connection.sock.settimeout(1e-7)  # less than the kernel can wait, and not for ever
        with response.waiting_in_kernel(), pytest.raises(TimeoutError):
            response.read_some(memoryview(bytearray(1)))
        assert at == 1_000


def test_what_came_with_the_head_is_given_before_anything_is_waited_for() -> None:
    """recv(2) behind it would wait, and a reset there would lose it."""
    with Liar(Say(cut(1_000), "hold")) as liar, closing(connected(liar)) as connection:
        response, whole = ask(connection), memoryview(bytearray(len(BODY)))
        assert response.fp.peek()
        connection.sock.settimeout(1e-7)
        with response.waiting_in_kernel():
            assert response.read_some(whole)


def test_signals_of_a_timer_do_not_prolong_the_wait() -> None:
    """A profiler's, say, that come more often than the timeout ends: recv(2) would begin anew."""
    signals: list[int] = []
    with Liar(Say(cut(1_000), "hold")) as liar, closing(connected(liar)) as connection:
        response, at = ask(connection), 0
        while at < 1_000:
            at += response.read_some(memoryview(bytearray(len(BODY))))
        connection.sock.settimeout(0.1)
        before = signal.signal(signal.SIGVTALRM, lambda number, _: signals.append(number))
        signal.setitimer(signal.ITIMER_VIRTUAL, 3_600, 0.1)
        try:
            with response.waiting_in_kernel():
                assert connection.sock.gettimeout() == 0.1
                with pytest.raises(TimeoutError):
                    response.read_some(memoryview(bytearray(1)))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
    assert not signals
