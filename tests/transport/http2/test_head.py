"""Heads and frame headers of HTTP/2, read back by the libraries' own decoders."""

from __future__ import annotations

import hpack
from hyperframe.frame import Frame, GoAwayFrame
from hypothesis import given
from hypothesis import strategies as st

from tests.table import case, each
from zerocopy.core.http.messages import Response
from zerocopy.transport.http2 import head as http2_head
from zerocopy.transport.http2.head import frame_header, goaway_frame, literal, render_head

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=300).map(
    lambda text: text.encode("latin-1")
)
STATIC_NAMES = st.sampled_from([name for name, _ in hpack.table.HeaderTable.STATIC_TABLE])


def decode(block: bytes) -> list[tuple[bytes, bytes]]:
    """What hpack's own decoder reads, having checked that its dynamic table stays empty."""
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    assert not decoder.header_table.dynamic_entries
    return fields


@given(name=NAMES | STATIC_NAMES, value=VALUES)
def test_literal_reads_back_and_leaves_no_trace(name: bytes, value: bytes) -> None:
    """Any field is decoded to itself, by a decoder whose dynamic table stays as it was."""
    assert decode(literal(name, value)) == [(name, value)]


def test_field_of_the_static_table_is_one_byte() -> None:
    """RFC 7541 section 6.1: fields that have a value there; names without one cost no name."""
    for index, (name, value) in enumerate(hpack.table.HeaderTable.STATIC_TABLE, 1):
        with case(index, name, value):
            if value:
                assert literal(name, value) == bytes([0x80 | index])
            else:
                assert len(literal(name, b"")) <= 3
            assert decode(literal(name, b"other")) == [(name, b"other")]
            assert len(literal(name, b"other")) <= 2 + 1 + 5


@given(value=VALUES)
def test_string_is_the_shorter_of_both_forms(value: bytes) -> None:
    """Huffman's code is taken where it saves bytes, the plain octets else."""
    coded = http2_head._HUFFMAN.encode(value)
    length = min(len(coded), len(value))
    prefix = len(hpack.hpack.encode_integer(length, 7))
    string = http2_head._string(value)
    assert len(string) == prefix + length
    assert bool(string[0] & 0x80) == (len(coded) < len(value))


@given(fields=st.lists(st.tuples(NAMES, VALUES), max_size=12), content=st.binary(max_size=99))
def test_head_has_status_server_fields_and_length_in_order(
    fields: list[tuple[bytes, bytes]], content: bytes
) -> None:
    """The block of a response is its fields in lower case, between :status and Content-Length."""
    upper = tuple((name.upper(), value) for name, value in fields)
    response = Response(200, upper, content)
    block = render_head(response)
    assert response.head_h2 == block
    assert decode(block) == [
        (b":status", b"200"),
        (b"server", b"zerocopy"),
        *fields,
        (b"content-length", b"%d" % len(content)),
    ]


@each("status", [200, 204, 304, 400, 404, 405, 417, 431, 500, 503])
def test_head_without_content_has_no_length(status: int) -> None:
    """RFC 9110 section 8.6: no Content-Length in a 204, and none that would lie in a 304."""
    fields = dict(decode(render_head(Response(status, ()))))
    assert fields.pop(b":status") == b"%d" % status
    assert fields.pop(b"server") == b"zerocopy"
    assert fields == ({} if status in {204, 304} else {b"content-length": b"0"})


def test_blocks_mix_with_those_of_an_encoder() -> None:
    """Between two blocks that add to and read the dynamic table ours changes nothing."""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    fields = [(b"x-first", b"1"), (b"x-second", b"2")]
    ours = render_head(Response(200, ((b"ETag", b'"x"'),), b"abc"))
    first, again = encoder.encode(fields), encoder.encode(fields)
    assert len(again) == 2
    assert decoder.decode(first, raw=True) == fields
    assert len(list(decoder.decode(ours, raw=True))) == 4
    assert decoder.decode(again, raw=True) == fields


@given(
    nbytes=st.integers(0, (1 << 24) - 1),
    kind=st.sampled_from([0, 1, 3, 4, 6, 7, 8, 9]),
    stream_id=st.integers(1, (1 << 31) - 1),
)
def test_frame_header_is_what_a_parser_reads(nbytes: int, kind: int, stream_id: int) -> None:
    """Length, type and stream of every size are read back by hyperframe."""
    if kind in {4, 6, 7}:
        stream_id = 0
    frame, length = Frame.parse_frame_header(memoryview(frame_header(nbytes, kind, 0, stream_id)))
    assert (length, frame.type, frame.stream_id) == (nbytes, kind, stream_id)


@given(last=st.integers(0, (1 << 31) - 1), code=st.integers(0, 13))
def test_goaway_is_the_frame_of_a_library(last: int, code: int) -> None:
    """The bytes are those that hyperframe serializes."""
    ours = goaway_frame(last, code)
    assert ours == GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()
