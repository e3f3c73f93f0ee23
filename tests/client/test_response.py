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


def test_a_body_is_asked_for_before_it_is_waited_for_and_nothing_else_is() -> None:
    """The connection is kept, and the next head is waited for as before."""
    with Liar(Say(WHOLE)) as liar, closing(connected(liar)) as connection:
        for _ in range(2):
            response, body = ask(connection), memoryview(bytearray(len(BODY)))
            assert connection.sock.gettimeout() == 20
            with response.asked_first():
                assert connection.sock.gettimeout() == 0
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
        with response.asked_first():
            assert connection.sock.gettimeout() == 20
            while count := response.read_some(memoryview(bytearray(len(BODY)))):
                at += count
        assert at == len(BODY)


def test_silence_amid_a_body_is_a_timeout() -> None:
    """What came before it was given, to the last byte."""
    with Liar(Say(cut(1_000), "hold")) as liar, closing(connected(liar)) as connection:
        response, at = ask(connection), 0
        with response.asked_first():
            while at < 1_000:
                at += response.read_some(memoryview(bytearray(len(BODY))))
            response._timeout_s = 1e-6  # less than poll(2) can wait
            with pytest.raises(TimeoutError):
                response.read_some(memoryview(bytearray(1)))
        assert at == 1_000


def test_signals_do_not_prolong_the_wait() -> None:
    """A profiler's, or a timer's, that come more often than the timeout ends."""
    with Liar(Say(cut(1_000), "hold")) as liar, closing(connected(liar)) as connection:
        response, at, signals = ask(connection), 0, []
        with response.asked_first():
            while at < 1_000:
                at += response.read_some(memoryview(bytearray(len(BODY))))
            response._timeout_s = 0.1
            before = signal.signal(signal.SIGALRM, lambda *_: signals.append(1))
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            try:
                with pytest.raises(TimeoutError):
                    response.read_some(memoryview(bytearray(1)))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
        assert signals
