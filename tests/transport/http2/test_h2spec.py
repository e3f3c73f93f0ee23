"""What h2spec asks of a server, over a page and over the data route; and h2spec itself.

The cases here, each with its section, are those that the tests beside this one do not have: they
are of RFC 7541 (HPACK), of frames on streams that are closed, and of unknown codes and frames.
h2spec itself (github.com/summerwind/h2spec, a program in Go) is in no package index. Where it is in
PATH, a slow test runs all of it.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hpack import Encoder

from tests.faults.client import LARGE
from tests.h2client import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    H2Client,
)
from tests.transport.http2.frames import (
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    WHOLE,
    assert_connection_error,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server import RunningServer

CANCEL = struct.pack(">I", 8)
UNKNOWN_CODE, UNKNOWN_KIND = 0xFF, 0x16
INITIAL_WINDOW_SIZE = 4

H2SPEC = shutil.which("h2spec")
H2SPEC_S = 240

TARGETS = pytest.mark.parametrize("target", ["/", LARGE], ids=["page", "data"])


def literal(value: bytes) -> bytes:
    """A field x: its name in Huffman code, its value as it is given."""
    return b"\x00\x81\xf3" + value


class Head:
    """The frames of a GET on stream 1, in the pieces that cases want."""

    def __init__(self, target: str) -> None:
        fields = {":method": "GET", ":scheme": "https", ":authority": "t", ":path": target}
        self.block = Encoder().encode(list(fields.items()), huffman=False)
        self.whole = frame(HEADERS, WHOLE, 1, self.block)
        self.opened = frame(HEADERS, END_HEADERS, 1, self.block)
        self.was_reset = self.opened + frame(RST_STREAM, 0, 1, CANCEL)
        self.begun = frame(HEADERS, END_STREAM, 1, self.block[:2])
        self.rest = frame(CONTINUATION, END_HEADERS, 1, self.block[2:])

    def ending(self, behind: bytes) -> bytes:
        """With something behind the fields."""
        return frame(HEADERS, WHOLE, 1, self.block + behind)


class Case(NamedTuple):
    """Bad frames, and the codes that may tell so."""

    section: str
    what: str
    make: Callable[[Head], bytes]
    codes: frozenset[int]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.section}, {self.what}"


def broken(section: str, what: str, make: Callable[[Head], bytes]) -> Case:
    """A field block that is none."""
    return Case(f"RFC 7541 {section}", what, make, frozenset({COMPRESSION_ERROR}))


def bad(section: str, what: str, make: Callable[[Head], bytes], *codes: int) -> Case:
    """Frames that RFC 9113 forbids."""
    return Case(f"RFC 9113 {section}", what, make, frozenset(codes))


CONNECTION_ERRORS = [
    broken("2.3.3", "an index beyond both tables", lambda head: head.ending(b"\xc6")),
    broken("6.1", "index 0", lambda head: head.ending(b"\x80")),
    broken("4.2", "a table size behind the fields", lambda head: head.ending(b"\x20")),
    broken(
        "5.2", "padding of more than 7 bits", lambda head: head.ending(literal(b"\x82\x1f\xff"))
    ),
    broken("5.2", "padding that is no EOS", lambda head: head.ending(literal(b"\x81\x18"))),
    broken(
        "5.2", "EOS in a string", lambda head: head.ending(literal(b"\x85\x1f\xff\xff\xff\xff"))
    ),
    broken(
        "6.3",
        "a table size above the limit",
        lambda head: frame(HEADERS, WHOLE, 1, b"\x3f\xe1\xff\x03" + head.block),
    ),
    bad(
        "4.3",
        "HEADERS of another stream amid a block",
        lambda head: head.begun + frame(HEADERS, WHOLE, 3, head.block),
        PROTOCOL_ERROR,
    ),
    bad("5.1", "CONTINUATION on an idle stream", lambda head: head.rest, PROTOCOL_ERROR),
    bad("5.4.1", "PING on a stream", lambda _: frame(PING, 0, 3, bytes(8)), PROTOCOL_ERROR),
    bad(
        "5.5",
        "an unknown frame amid a block",
        lambda head: head.begun + frame(UNKNOWN_KIND, 0, 0, bytes(8)) + head.rest,
        PROTOCOL_ERROR,
    ),
    bad(
        "6.1",
        "DATA padded beyond its end",
        lambda head: head.opened + frame(DATA, PADDED | END_STREAM, 1, b"\x06test"),
        PROTOCOL_ERROR,
    ),
    bad(
        "6.10",
        "CONTINUATION behind whole HEADERS",
        lambda head: head.whole + head.rest,
        PROTOCOL_ERROR,
        STREAM_CLOSED,
    ),
    bad(
        "6.10",
        "CONTINUATION behind the last one",
        lambda head: head.begun + head.rest + head.rest,
        PROTOCOL_ERROR,
        STREAM_CLOSED,
    ),
    bad(
        "5.1",
        "CONTINUATION on a stream that was reset",
        lambda head: head.was_reset + head.rest,
        PROTOCOL_ERROR,
        STREAM_CLOSED,
    ),
]

STREAM_ERRORS = [
    bad(
        "5.1",
        "DATA on a stream that was reset",
        lambda head: head.was_reset + frame(DATA, END_STREAM, 1, b"test"),
        STREAM_CLOSED,
    ),
    bad(
        "5.1",
        "HEADERS on a stream that was reset",
        lambda head: head.was_reset + head.whole,
        STREAM_CLOSED,
    ),
    bad(
        "5.1",
        "DATA behind the end",
        lambda head: head.whole + frame(DATA, END_STREAM, 1, b"test"),
        STREAM_CLOSED,
    ),
    bad("5.1", "HEADERS behind the end", lambda head: head.whole + head.whole, STREAM_CLOSED),
    bad(
        "6.9",
        "a stream's WINDOW_UPDATE by 0",
        lambda head: head.opened + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
        PROTOCOL_ERROR,
    ),
    bad(
        "8.1",
        "trailers that end nothing",
        lambda head: head.opened + frame(HEADERS, END_HEADERS, 1, b"\x00\x06x-test\x01y"),
        PROTOCOL_ERROR,
    ),
]


def send(client: H2Client, case: Case, target: str) -> None:
    """Send the frames of a case on streams that the client has heard of."""
    for _ in range(2):
        client.request_bytes("/")
    client.send_bytes(case.make(Head(target)))


@TARGETS
@pytest.mark.parametrize("case", CONNECTION_ERRORS, ids=lambda case: case.name)
def test_connection_error_ends_the_connection(client: H2Client, case: Case, target: str) -> None:
    """GOAWAY with its code, then the end, though an answer is under way."""
    client.auto_window = False
    send(client, case, target)
    assert_connection_error(client, *case.codes)


@TARGETS
@pytest.mark.parametrize("case", STREAM_ERRORS, ids=lambda case: case.name)
def test_stream_error_is_told(client: H2Client, case: Case, target: str) -> None:
    """RST_STREAM or, as section 5.4.2 allows, GOAWAY with its code; an answer may have begun."""
    client.auto_window = False
    send(client, case, target)

    def told() -> set[int]:
        return {code for _, code in client.resets} | {code for code, _ in client.goaways}

    client.pump(lambda: bool(told() & case.codes) or client.is_closed, "the code")
    assert told() & case.codes


@TARGETS
@pytest.mark.parametrize("what", ["a field in Huffman code", "a table size at the limit"])
def test_what_is_next_to_an_error_is_answered(client: H2Client, what: str, target: str) -> None:
    """RFC 7541 sections 5.2 and 6.3: so the errors are told for what is wrong, not for the rest."""
    client.auto_window = False
    client.request_bytes("/")
    head = Head(target)
    if what == "a field in Huffman code":
        client.send_bytes(head.ending(literal(b"\x81\x1f")))
    else:
        client.send_bytes(frame(HEADERS, WHOLE, 1, b"\x3f\xe1\x1f" + head.block))
    client.pump(lambda: bool(client.lengths(1)), "the answer")
    assert client.streams[1].status == 200


@TARGETS
def test_last_of_two_values_of_a_setting_counts(client: H2Client, target: str) -> None:
    """RFC 9113 section 6.5.3: values are taken in the order in which they come."""
    client.auto_window = False
    sizes = struct.pack(">HIHI", INITIAL_WINDOW_SIZE, 100, INITIAL_WINDOW_SIZE, 1)
    client.send_bytes(frame(SETTINGS, 0, 0, sizes))
    stream_id = client.request(target)
    client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
    assert client.lengths(stream_id) == [1]


@TARGETS
def test_reset_with_an_unknown_code_is_one(client: H2Client, target: str) -> None:
    """RFC 9113 section 7: no special behaviour."""
    client.auto_window = False
    stream_id = client.request(target)
    client.reset(stream_id, UNKNOWN_CODE)
    client.ping()
    assert not client.goaways


@TARGETS
def test_goaway_with_an_unknown_code_is_one(client: H2Client, target: str) -> None:
    """RFC 9113 section 7: what was asked before is answered, as after any other."""
    client.auto_window = False
    stream_id = client.request(target)
    client.send_bytes(frame(GOAWAY, 0, 0, struct.pack(">II", 0, UNKNOWN_CODE)))
    client.pump(lambda: bool(client.lengths(stream_id)), "the answer")


@pytest.mark.slow
@pytest.mark.timeout(H2SPEC_S + 60)
@pytest.mark.skipif(H2SPEC is None, reason="h2spec is not in PATH")
@TARGETS
def test_h2spec_finds_no_fault(server: RunningServer, target: str) -> None:
    """All of its 146 cases: generic, http2 and hpack."""
    assert H2SPEC is not None
    done = subprocess.run(
        [H2SPEC, "--tls", "--insecure", "--host", "127.0.0.1", "--port", str(server.tls_port),
         "--path", target],
        capture_output=True, text=True, timeout=H2SPEC_S, check=False,
    )  # fmt: skip
    told = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert told, done.stdout[-2_000:] + done.stderr
    assert told.groups() == ("146", "146", "0", "0"), done.stdout[-20_000:]
