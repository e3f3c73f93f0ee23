"""wsproto as the judge of the inbox: any frames, cut anywhere, mean the same to both."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong

from tests.transport.websocket.clientframes import close, frame
from zerocopy.transport.timers import Wheel
from zerocopy.transport.websocket.inbox import Inbox

UNKNOWN_TO_WSPROTO = 1014
"""A close code that IANA has registered after it was written."""

LONGEST_HEADER = b"\x00" * 14

PAYLOADS = st.one_of(
    st.binary(max_size=10),
    st.text(max_size=10).map(str.encode),
    st.sampled_from([b"", b"\xf0\x9f", b"\x98\x80", b"\xed\xa0\x80", b"\xff", b"x" * 126]),
    st.integers(0, 200).map(bytes),
)
CODES = st.one_of(st.sampled_from([1000, 1003, 1004, 1005, 1006, 1015, 2999]), st.integers(0, 5100))
FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([0, 0, 1, 2, 9, 10]), PAYLOADS, fin=st.booleans()),
    st.builds(frame, st.sampled_from([1, 2, 9, 10]), PAYLOADS),
    st.builds(close, CODES.filter(lambda code: code != UNKNOWN_TO_WSPROTO), PAYLOADS),
    st.builds(frame, st.just(8), st.binary(max_size=1)),
    st.builds(
        frame,
        st.integers(0, 15),
        PAYLOADS,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 4]),
        mask=st.one_of(st.just(b"abcd"), st.binary(min_size=4, max_size=4), st.none()),
        extended=st.sampled_from([None, None, 2, 8]),
    ),
)
STREAMS = st.builds(
    lambda parts, left: b"".join(parts)[: len(b"".join(parts)) - left],
    st.lists(FRAMES, max_size=8),
    st.integers(0, 3),
)
CUTS = st.lists(st.integers(1, 40), max_size=12)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces of these sizes, then the rest."""
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    return [*pieces, data]


def judged(data: bytes) -> tuple[bytes | None, int | None]:
    """The last ping's payload, and the close code: the client's, or that of wsproto's fault."""
    server = Connection(ConnectionType.SERVER)
    server.receive_data(data)
    last_ping = None
    for event in server.events():
        if isinstance(event, Ping):
            last_ping = bytes(event.payload)
        elif isinstance(event, CloseConnection):
            return last_ping, event.code
    return last_ping, None


def said(inbox: Inbox) -> tuple[bytes | None, int | None]:
    """The same of an inbox, by what it replies."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(inbox.replies())
    last_ping = code = None
    for event in client.events():
        if isinstance(event, Pong):
            assert last_ping is None
            last_ping = bytes(event.payload)
        else:
            assert isinstance(event, CloseConnection)
            code = event.code
    assert inbox.is_over == (code is not None)
    return last_ping, code


@settings(max_examples=10 * settings().max_examples)
@given(STREAMS, CUTS)
@example(frame(1, b"\xf0\x9f", fin=False) + frame(9, b"p") + frame(0, b"\x98\x80"), [1, 1, 9])
@example(frame(2, b"x" * 126, extended=2) + close(1000), [3])
@example(frame(2, b"x" * 125, extended=2), [])
@example(b"\x01\xfe\x00\x00abc", [])
def test_inbox_and_wsproto_agree(data: bytes, cuts: list[int]) -> None:
    """The same close code, and the same last ping, once both have seen enough of a header.

    One of them may find a fault in a header that is not whole; nothing that follows mends it.
    """
    inbox = Inbox(Wheel())
    for piece in pieces_of(data, cuts):
        inbox.on_data(piece)
    theirs = judged(data)
    if inbox.is_over and theirs[1] is None:
        theirs = judged(data + LONGEST_HEADER)
    elif theirs[1] is not None and not inbox.is_over:
        inbox.on_data(LONGEST_HEADER)
    assert said(inbox) == theirs


@given(STREAMS, CUTS)
def test_cuts_change_nothing(data: bytes, cuts: list[int]) -> None:
    """The answer to bytes that come in pieces is that to the same bytes at once."""
    whole, cut = Inbox(Wheel()), Inbox(Wheel())
    whole.on_data(data)
    for piece in pieces_of(data, cuts):
        cut.on_data(piece)
    assert whole.is_over == cut.is_over
    assert whole.replies() == cut.replies()
