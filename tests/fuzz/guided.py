"""What atheris runs, in a process of its own: one parser, all the inputs it can think of.

    python guided.py PARSER SECONDS

An exception that is not documented ends the process with a report of the input.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

atheris: Any = importlib.import_module("atheris")  # an extra: it may not be there to be checked

with atheris.instrument_imports(include=["zerocopy", "urllib.parse"]):
    from zerocopy.core.errors import BadRequestError
    from zerocopy.core.http.messages import origin_form
    from zerocopy.core.layout import file_name, is_name, parse_file_name
    from zerocopy.core.query import parse_query
    from zerocopy.transport.http1.parser import RequestParser
    from zerocopy.transport.limits import RequestLimits

LIMITS = RequestLimits(
    target_bytes_max=200,
    field_bytes_max=100,
    head_bytes_max=500,
    fields_max=9,
    content_bytes_max=50,
)


def head(data: bytes) -> None:
    """A head in two pieces and whole: as many messages, and the parser's bound."""
    counts = []
    for cut in (len(data), data[0] if data else 0):
        parser = RequestParser(LIMITS)
        for piece in (data[:cut], data[cut:]):
            parser.feed(piece)
            assert len(parser._reader) <= LIMITS.head_bytes_max
        counts.append(len(parser.messages))
    assert counts[0] == counts[1]


def query(data: bytes) -> None:
    """A checked query or a bad request."""
    with suppress(BadRequestError):
        assert parse_query(data, columns_max=4).columns


def names(data: bytes) -> None:
    """A file name in one spelling, or none; a target in one form."""
    text = data.decode("utf-8", "surrogateescape")
    found = parse_file_name(text)
    assert found is None or file_name(*found) == text
    assert not is_name(text) or text.isascii()
    assert origin_form(origin_form(data)) == origin_form(data)


PARSERS: dict[str, Callable[[bytes], None]] = {"head": head, "query": query, "names": names}

if __name__ == "__main__":
    parser_name, seconds, corpus = sys.argv[1:]
    options = [f"-max_total_time={seconds}", "-max_len=700", "-timeout=10", "-seed=1"]
    atheris.Setup([sys.argv[0], *options, corpus], PARSERS[parser_name])
    atheris.Fuzz()
