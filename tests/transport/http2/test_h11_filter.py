"""GatedConnection: h11 sees what RequestParser would answer, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.http1.bench import PARSER_LIMITS
from tests.transport.http1.strict_cases import OK, head, target
from tests.transport.http1.strict_streams import mutated_streams
from zerocopy.transport.http1.parser import RequestParser
from zerocopy.transport.http2.h11_filter import FilteredH11Connection


class Driver:
    """Answers each request with 404 and no content."""

    def __init__(self) -> None:
        self.gate = FilteredH11Connection(PARSER_LIMITS)
        self.requests: list[tuple[bytes, bytes]] = []
        self.contents: list[bytes] = []
        self.answers = 0
        self.is_over = False

    def feed(self, data: bytes) -> None:
        """Give bytes, and handle what comes of them; an empty `data` is the end of the input."""
        self.gate.receive_data(data)
        try:
            while not self.is_over and self._handle(self.gate.next_event()):
                pass
        except h11.RemoteProtocolError:
            self.is_over = True

    def _handle(self, event: object) -> bool:
        if isinstance(event, h11.Request):
            self.requests.append((event.method, event.target))
            self.contents.append(b"")
        elif isinstance(event, h11.Data):
            self.contents[-1] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
            fields = [("Content-Length", "0")]
            fields += [("Connection", "close")] if self.gate.closes_after else []
            self.gate.send(h11.Response(status_code=404, headers=fields))
            self.gate.send(h11.EndOfMessage())
            self.answers += 1
            if self.gate.our_state is h11.MUST_CLOSE:
                self.is_over = True
            else:
                self.gate.start_next_cycle()
        else:
            return False
        return True


@settings(max_examples=80, deadline=None)
@given(mutated_streams(), st.lists(st.integers(0, 1_200), max_size=8))
def test_gate_passes_what_the_parser_would_answer(stream: bytes, cuts: list[int]) -> None:
    """At any cut: the same requests as far as h11 goes on, and the same fault at the same place."""
    parser, driver = RequestParser(PARSER_LIMITS), Driver()
    parser.feed(stream)
    messages = list(parser.messages)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for begin, end in pairwise(edges):
        driver.feed(stream[begin:end])
    wanted = [(m.request.method, m.request.target) for m in messages if m.error is None]
    assert driver.requests[: driver.answers] == wanted[: driver.answers]
    fault, error = driver.gate.fault, messages[-1].error if messages else None
    if fault is not None:
        assert error is not None
        assert (fault.status, fault.detail) == (error.status, error.detail)
        assert driver.requests == wanted
    elif not driver.is_over:
        assert error is None
        assert len(driver.requests) >= len(wanted)


def test_content_is_passed_to_the_byte() -> None:
    """A request behind content is the next request, byte by byte or at once; none is lost."""
    stream = head(b"Content-Length: 3") + b"abc" + target(b"/2") + head(b"Content-Length: 1") + b"d"
    for step in (1, 7, len(stream)):
        driver = Driver()
        for at in range(0, len(stream), step):
            driver.feed(stream[at : at + step])
        assert driver.requests == [(b"GET", b"/healthz"), (b"GET", b"/2"), (b"GET", b"/healthz")]
        assert driver.contents == [b"abc", b"", b"d"]
        assert not driver.is_over


@pytest.mark.parametrize(
    ("stream", "requests"),
    [(b"", 0), (OK[:-2], 0), (OK, 1), (OK + OK, 2), (OK + OK[:9], 1), (b"\r\n", 0)],
    ids=repr,
)
@pytest.mark.parametrize("step", [1, 1_000])
def test_end_of_input_ends_after_what_was_asked(stream: bytes, requests: int, step: int) -> None:
    """Whole requests are answered, a part of one is none, and then the connection is closed."""
    driver = Driver()
    for at in range(0, len(stream), step):
        driver.feed(stream[at : at + step])
    driver.feed(b"")
    driver.feed(b"")
    assert len(driver.requests) == requests
    assert driver.gate.fault is None
    assert driver.gate.their_state is h11.CLOSED


def test_end_of_input_amid_content_is_a_fault_of_the_client() -> None:
    """RFC 9112 section 8: a message that lacks content is incomplete, and h11 says so."""
    driver = Driver()
    driver.feed(head(b"Content-Length: 3") + b"ab")
    driver.feed(b"")
    assert driver.is_over
    assert driver.gate.their_state is h11.ERROR


def test_nothing_is_kept_once_it_is_over() -> None:
    """After a fault, and after the last answer, what still comes takes no memory."""
    for stream in (b"garbage\r\n\r\n", head(b"Connection: close"), head(line=b"GET / HTTP/1.0")):
        driver = Driver()
        driver.feed(stream)
        assert driver.is_over
        for _ in range(100):
            driver.gate.receive_data(bytes(10_000))
        assert len(driver.gate._incoming) <= len(stream)


def test_upgrade_never_reaches_h11() -> None:
    """RFC 9110 section 7.8: ignored; h11 would wait for the answer before it reads on."""
    driver = Driver()
    driver.feed(head(b"Connection: Upgrade", b"Upgrade: websocket") * 2)
    assert len(driver.requests) == 2
    assert driver.gate.fault is None


def test_gate_tells_when_it_is_amid_a_head() -> None:
    """From its first byte to its last; content, faults and whole requests are none."""
    driver = Driver()
    told = []
    for piece in (OK[:1], OK[1:9], OK[9:], head(b"Content-Length: 2"), b"a", b"b" + OK[:3]):
        driver.feed(piece)
        told.append(driver.gate.is_mid_head)
    assert told == [True, True, False, False, False, True]
    driver.feed(b"\0\r\n\r\n")
    assert driver.gate.fault is not None
    assert not driver.gate.is_mid_head
