"""Where a body goes: into memory, or into columns.

Owns what has come of a body, so that a broken one can be resumed. A sink knows HTTP's response
object, but not how it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Protocol, TypeAlias

from zerocopy.client.errors import UnexpectedAnswer
from zerocopy.client.layout import Layout, parse_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zerocopy.client.response import Response

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes of the body that have come, and with all, None where unknown."""

HEADER_LINE_MAX = 1 << 24
"""Bytes: 32 columns and a million skipped days stay below it."""

SMALL_BODY_MAX = 1 << 28
"""Bytes of a JSON document."""


class Sink(Protocol):
    """Takes one body, perhaps of several responses, each resuming the one before."""

    tag: str | None
    """The strong ETag of what is kept, None where there is none."""

    @property
    def received(self) -> int:
        """Bytes of the body that are kept: where a resumed response is to begin."""

    def restart(self, tag: str | None) -> None:
        """Forget what is kept: a whole body comes, with this strong ETag."""

    def take(self, response: Response) -> None:
        """Read a response to its end.

        Raises:
            OSError, HTTPException: the connection broke; `received` says how far it came.
            UnexpectedAnswer: the body is none that zerocopy gives.
        """


class SmallSink:
    """A body that is kept whole, such as JSON; it begins anew instead of being resumed."""

    __slots__ = ("content", "tag")

    received = 0

    def __init__(self) -> None:
        self.content = b""
        self.tag: str | None = None

    def restart(self, tag: str | None) -> None:
        """Nothing is kept of a part."""

    def take(self, response: Response) -> None:
        """Read all."""
        self.content = response.read(SMALL_BODY_MAX)
        finish(response)


class ColumnsSink:
    """A body in the format `columns`: each column is read into its place in one buffer."""

    __slots__ = ("_at", "_header_nbytes", "_layout", "_memory", "_progress", "tag")

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self.restart(None)

    def restart(self, tag: str | None) -> None:
        """Forget header line and records."""
        self.tag = tag
        self._header_nbytes = 0
        self._layout: Layout | None = None
        self._memory: NDArray[np.uint8] | None = None
        self._at = 0  # bytes of records

    @property
    def received(self) -> int:
        """Bytes of header line and records."""
        return self._header_nbytes + self._at

    def take(self, response: Response) -> None:
        """Read the header line, if it has not come yet, then what is left of each column."""
        if self._layout is None:
            self._begin(response)
        assert self._layout is not None, "the header line has come"
        assert self._memory is not None, "with the header line"
        _check_length(response, self._layout.nbytes - self._at)
        begin = 0
        self._tell()  # also where there are no records
        with response.waiting_in_kernel():
            for column in self._layout.columns:
                end = begin + column.nbytes
                view = self._memory.data[column.offset : column.offset + column.nbytes]
                while self._at < end:
                    self._read_into(response, view[self._at - begin :])
                begin = end
        finish(response)

    def result(self) -> tuple[Layout, NDArray[np.uint8]]:
        """The layout and the memory it describes, once all has come."""
        assert self._layout is not None, "a body was taken"
        assert self._memory is not None, "with its layout"
        return self._layout, self._memory

    def _begin(self, response: Response) -> None:
        line = _line_of(response)
        if not line.endswith(b"\n"):
            finish(response)  # tells a broken body from one that is none of zerocopy's
        layout = parse_header(line)
        _check_length(response, layout.nbytes)  # before so much is allocated
        self._memory = layout.allocate()
        self._layout, self._header_nbytes = layout, len(line)

    def _read_into(self, response: Response, view: memoryview) -> None:
        count = response.read_some(view)
        if not count and response.chunked:  # the last chunk: http.client tells a break itself
            raise UnexpectedAnswer("the answer is shorter than its header line says")
        if not count:
            raise IncompleteRead(b"", response.length)
        self._at += count
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            assert self._layout is not None, "the header line has come"
            self._progress(self.received, self._header_nbytes + self._layout.nbytes)


def _line_of(response: Response) -> bytes:
    """The first line of a body, whole or as far as the body goes."""
    if not response.chunked:
        return response.readline(HEADER_LINE_MAX)
    line, piece = bytearray(), bytearray(1)  # readline() takes a break between chunks for the end
    while len(line) < HEADER_LINE_MAX and piece != b"\n" and response.readinto(piece):
        line += piece
    return bytes(line)


def _check_length(response: Response, nbytes: int) -> None:
    """Refuse a response whose framing has another length than is to come."""
    if response.length not in {None, nbytes}:
        raise UnexpectedAnswer(
            f"{nbytes} bytes of records are to come by the header line, {response.length} by "
            "Content-Length"
        )


def require_end(response: Response) -> None:
    """Refuse a body whose end cannot be told from a break.

    Raises:
        UnexpectedAnswer: it has neither a length nor chunks.
    """
    if response.length is None and not response.chunked:
        raise UnexpectedAnswer("the answer has no length, so its end cannot be told from a break")


def finish(response: Response) -> None:
    """Read the end of a body's framing; nothing may be left of the body.

    Raises:
        UnexpectedAnswer: something is.
        IncompleteRead: it is shorter than it said.
    """
    if response.read(1):
        raise UnexpectedAnswer("the answer is longer than its header line says")
    if response.length:
        raise IncompleteRead(b"", response.length)
