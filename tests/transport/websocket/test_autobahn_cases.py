"""The cases of Autobahn's test suite that concern a server which sends no echo, by their numbers.

The suite itself is a program for Python 2.7, which tests/conformance/test_autobahn.py runs where
there is one. Its sections: 1 framing, 2 pings
and pongs, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 size. Where it has
many cases of a kind, the table has each kind. Sections 12 and 13 are about compression, which is
not offered.
"""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Pong

from tests.table import case
from tests.transport.websocket.clientframes import binary, close, frame, more, ping, pong, text
from zerocopy.transport.timers import Wheel
from zerocopy.transport.websocket.inbox import Inbox

GREEK = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = "κόσμε".encode()
BYE = close(1000)
TOO_LARGE = "κόσμε".encode() + b"\xf4\x90\x80\x80"
SURROGATE = KOSME + b"\xed\xa0\x80" + b"edited"
CUT = KOSME + b"\xf0\x9f"

CASES: dict[str, tuple[bytes, list[bytes], int | None]] = {
    # number: what the client sends, the pongs it gets, the code that the server closes with
    **{
        f"1.1.{n} text of {size}": (text(b"*" * size) + BYE, [], 1000)
        for n, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1)
    },
    **{
        f"1.2.{n} binary of {size}": (binary(b"\xfe" * size) + BYE, [], 1000)
        for n, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1)
    },
    "2.1 ping": (ping() + BYE, [b""], 1000),
    "2.2 ping with text": (ping(b"Hello, world!") + BYE, [b"Hello, world!"], 1000),
    "2.3 ping with binary": (ping(b"\x00\xff\xfe\xfd") + BYE, [b"\x00\xff\xfe\xfd"], 1000),
    "2.4 ping of 125": (ping(b"\xfe" * 125) + BYE, [b"\xfe" * 125], 1000),
    "2.5 ping of 126": (frame(9, b"\xfe" * 126), [], 1002),
    "2.7 pong unasked": (pong() + BYE, [], 1000),
    "2.8 pong unasked, with payload": (pong(b"unsolicited") + BYE, [], 1000),
    "2.9 pong, then ping": (pong(b"unsolicited") + ping(b"p") + BYE, [b"p"], 1000),
    "2.10 ten pings": (b"".join(ping(b"%d" % n) for n in range(10)) + BYE, [b"9"], 1000),
    "3.1 RSV 1": (frame(1, b"x", rsv=1), [], 1002),
    "3.2 text, then RSV 2": (text("x") + frame(1, b"x", rsv=2) + ping(), [], 1002),
    "3.4 text, then RSV 4": (text("x") + frame(1, b"x", rsv=4) + ping(), [], 1002),
    "3.5 binary with RSV 5": (frame(2, b"x", rsv=5), [], 1002),
    "3.6 ping with RSV 6": (frame(9, rsv=6), [], 1002),
    "3.7 close with RSV 7": (frame(8, rsv=7), [], 1002),
    **{
        f"4.1.{n} opcode {opcode}": (text("x") + frame(opcode, b"x"), [], 1002)
        for n, opcode in enumerate(range(3, 8), 1)
    },
    **{
        f"4.2.{n} opcode {opcode}": (frame(opcode) + ping(), [], 1002)
        for n, opcode in enumerate(range(11, 16), 1)
    },
    "5.1 ping in two": (frame(9, b"f1", fin=False) + more(b"f2", fin=True), [], 1002),
    "5.2 pong in two": (frame(10, b"f1", fin=False) + more(b"f2", fin=True), [], 1002),
    "5.3 text in two": (text("f1", fin=False) + more("f2", fin=True) + BYE, [], 1000),
    "5.6 ping between": (
        text("f1", fin=False) + ping(b"p") + more("f2", fin=True) + BYE,
        [b"p"],
        1000,
    ),
    "5.9 continuation of nothing": (more("x", fin=True) + text("y"), [], 1002),
    "5.12 the same, to go on": (more("x") + text("y"), [], 1002),
    "5.15 continuation after the end": (
        text("a", fin=False) + more("b", fin=True) + more("c") + text("d"),
        [],
        1002,
    ),
    "5.18 two beginnings": (text("a", fin=False) + text("b"), [], 1002),
    "5.19 pings amid six": (
        text("f1", fin=False)
        + more("f2")
        + ping(b"one")
        + more("f3")
        + more("f4")
        + ping(b"two")
        + more("f5", fin=True)
        + BYE,
        [b"two"],
        1000,
    ),
    "6.1.1 empty text": (text("") + BYE, [], 1000),
    "6.1.2 empty fragments": (
        text("", fin=False) + more("") + more("", fin=True) + BYE,
        [],
        1000,
    ),
    "6.2.2 UTF-8 in two": (
        text(GREEK[:12], fin=False) + more(GREEK[12:], fin=True) + BYE,
        [],
        1000,
    ),
    "6.2.3 byte by byte": (
        text(b"", fin=False)
        + b"".join(more(GREEK[n : n + 1]) for n in range(len(GREEK)))
        + more("", fin=True)
        + BYE,
        [],
        1000,
    ),
    "6.3.1 surrogate": (text(SURROGATE), [], 1007),
    "6.4.1 surrogate, then nothing": (text(SURROGATE, fin=False), [], 1007),
    "6.4.2 above U+10FFFF": (text(TOO_LARGE, fin=False), [], 1007),
    "6.6.1 cut character": (text(CUT), [], 1007),
    "6.6.2 cut character, to go on": (
        text(CUT, fin=False) + more(b"\x98\x80", fin=True) + BYE,
        [],
        1000,
    ),
    "6.6.3 cut character, no more": (text(CUT, fin=False) + more(b"", fin=True), [], 1007),
    "6.14.1 lonely continuation byte": (text(b"\x80"), [], 1007),
    "6.16.1 overlong slash": (text(b"\xc0\xaf"), [], 1007),
    "6.22.1 non-characters": (text("\uffff\U0010ffff") + BYE, [], 1000),
    "7.1.1 message, then close": (text("x") + BYE, [], 1000),
    "7.1.2 two closes": (BYE + close(1001), [], 1000),
    "7.1.3 ping after close": (BYE + ping(b"x"), [], 1000),
    "7.1.5 close amid a message": (text("a", fin=False) + BYE + more("b", fin=True), [], 1000),
    "7.1.6 much, then close": (binary(bytes(65_536)) * 3 + BYE + ping(), [], 1000),
    "7.3.1 close of nothing": (close(), [], 1005),
    "7.3.2 close of one byte": (frame(8, b"a"), [], 1002),
    "7.3.3 close of a code": (close(1000), [], 1000),
    "7.3.4 close with a reason": (close(1000, "Hello"), [], 1000),
    "7.3.5 close of 125": (close(1000, "*" * 123), [], 1000),
    "7.3.6 close of 126": (close(1000, "*" * 124), [], 1002),
    "7.5.1 reason that is no UTF-8": (close(1000, SURROGATE), [], 1007),
    **{
        f"7.7.{n} code {code}": (close(code), [], code)
        for n, code in enumerate(
            (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1
        )
    },
    **{
        f"7.9.{n} code {code}": (close(code), [], 1002)
        for n, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1)
    },
    "7.13.1 code 5000": (close(5000), [], 1002),
    "7.13.2 code 65535": (close(65_535), [], 1002),
    "9.1.2 text of 256 KiB": (text(b"*" * 262_144), [], 1009),
    "9.3.1 the same in pieces": (
        text(b"*" * 64, fin=False) + more(b"*" * 64) * 4_000 + ping(b"x"),
        [],
        1009,
    ),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_cases(size: int) -> None:
    """Whole, or in pieces of some bytes ("chops"), a case has the same replies."""
    for name, (data, pongs, code) in CASES.items():
        with case(name):
            check(data, pongs, code, size)


def check(data: bytes, pongs: list[bytes], code: int | None, size: int) -> None:
    """Fail unless the client of a case gets these replies."""
    if len(data) > 4_000:
        size *= 401
    inbox = Inbox(Wheel())
    for at in range(0, len(data), size):
        inbox.on_data(data[at : at + size])
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(inbox.replies())
    events = list(client.events())
    assert [bytes(event.payload) for event in events if isinstance(event, Pong)] == pongs
    closes = [event.code for event in events if isinstance(event, CloseConnection)]
    assert closes == ([] if code is None else [code])
