"""Streams for property tests: cases of the strict table in a row, with some bytes changed."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.transport.http1.strict_framing_cases import SECTIONS

BYTES_THAT_MATTER = b"\r\n \t:,/*#@[]%\0\x0b\xff09Aa."
SHORT_BYTES = 400
STREAMS = [case.data for cases in SECTIONS.values() for case in cases.values()]
SHORT = [stream for stream in STREAMS if len(stream) < SHORT_BYTES]


def mutated_streams() -> st.SearchStrategy[bytes]:
    """One to three cases, and up to three bytes inserted, replaced or left out."""
    edit = st.tuples(
        st.integers(0, SHORT_BYTES), st.integers(0, 2), st.sampled_from(BYTES_THAT_MATTER)
    )
    return st.builds(
        lambda streams, edits: _edited(b"".join(streams), edits),
        st.lists(st.sampled_from(SHORT), min_size=1, max_size=3),
        st.lists(edit, max_size=3),
    )


def _edited(stream: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    for position, kind, byte in edits:
        at = position % (len(stream) + 1)
        left, right = stream[:at], stream[at + (kind > 0) :]
        stream = left + (b"" if kind == 2 else bytes([byte])) + right
    return stream
