"""Where answers go: a file that appears whole, standard output, or a table on a terminal.

Owns that a reader who has seen enough is no error. It must never know who asked.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from zerocopy.client.errors import ChangedData, WriteFailed
from zerocopy.client.sinks import require_end
from zerocopy.commands.client.lines import cells_of
from zerocopy.commands.client.options import refuse_to_overwrite
from zerocopy.commands.shared import terminal
from zerocopy.core.errors import ZerocopyError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zerocopy.client.frame import Frame
    from zerocopy.client.response import Response
    from zerocopy.client.sinks import Progress

ROWS_MAX: Final = 20
"""Rows of a table; of a longer frame the first and the last half."""

_PIECE_BYTES_MAX: Final = 1 << 24
"""Of a body that is handed on as it comes."""

_WIDTH_MAX: Final = 10_000
"""Of a table: 32 columns are narrower."""

_DAYS_NAMED: Final = 3
"""In a message about days."""


@contextlib.contextmanager
def appearing(path: str, *, replaces: bool) -> Iterator[BinaryIO]:
    """A file that appears as `path` at the end of the block, and not at all if it fails.

    Raises:
        ZerocopyError: it cannot be written; or it has come meanwhile, unless `replaces`.
    """
    folder, name = os.path.split(path)
    hidden = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(hidden, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not replaces:
            refuse_to_overwrite(path)
        os.rename(hidden, path)
    except OSError as error:
        raise ZerocopyError(f"{path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(hidden)


@contextlib.contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, for bytes; the block ends quietly once nobody reads any more.

    `head` has then seen enough, which is no failure.
    """
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except (BrokenPipeError, WriteFailed) as error:
        if not isinstance(error, BrokenPipeError) and not isinstance(
            error.__cause__, BrokenPipeError
        ):
            raise
        # What is left in the buffer would fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextlib.contextmanager
def ending_unread(end: Callable[[], object]) -> Iterator[None]:
    """Call `end`, from another thread, once nobody reads standard output during the block.

    A write would tell it, but who waits for a record writes nothing.
    """
    over = os.eventfd(0, os.EFD_CLOEXEC)
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # POLLERR is told unasked: poll(2)
    poll.register(over, select.POLLIN)

    def watch() -> None:
        if over not in {fd for fd, _ in poll.poll()}:
            end()

    thread = threading.Thread(target=watch, name="zerocopy-unread")
    thread.start()
    try:
        yield
    finally:
        os.eventfd_write(over, 1)
        thread.join()
        os.close(over)


class StreamSink:
    """A body that is handed on as it comes; so it can be resumed, but not begin anew."""

    def __init__(self, file: BinaryIO, progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self.received = 0
        self.tag: str | None = None

    def restart(self, tag: str | None) -> None:
        """A whole body comes.

        Raises:
            ChangedData: some of another one has been handed on.
        """
        if self.received:
            raise ChangedData("the data changed while they were printed: ask again, or use -o FILE")
        self.tag = tag

    def take(self, response: Response) -> None:
        """Hand on a response, to its end."""
        require_end(response)
        left = response.length
        total = None if left is None else self.received + left
        while piece := response.read1(_PIECE_BYTES_MAX):
            try:
                self._file.write(piece)
            except OSError as error:
                raise WriteFailed(f"standard output: {error.strerror}") from error
            self.received += len(piece)
            if self._progress is not None:
                self._progress(self.received, total)
        if response.length:
            raise IncompleteRead(b"", response.length)


def print_frame(frame: Frame) -> None:
    """A table for people: times in UTC, the first and last records, how many there are."""
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    half = ROWS_MAX // 2
    is_cut = len(frame) > ROWS_MAX
    parts = [cells_of(part) for part in ([frame[:half], frame[-half:]] if is_cut else [frame])]
    table = Table(box=None, pad_edge=False)
    for name in parts[0]:
        justify: Any = "left" if frame[name].dtype.kind == "S" else "right"
        table.add_column(Text(name), justify=justify, no_wrap=True)
    for position, part in enumerate(parts):
        if position:
            table.add_row(*("…" for _ in part))
        for row in zip(*part.values(), strict=True):
            table.add_row(*map(Text, row))
    # A value is never cut: a line that is wider than the terminal is wrapped by it.
    console = terminal()
    console.width = _WIDTH_MAX
    console.width = Measurement.get(console, console.options, table).maximum
    console.print(table)
    of = "records" if frame.interval_s is None else f"bars of {frame.interval_s:,} s"
    console.print(f"{len(frame):,} {of}", highlight=False, markup=False)


def tell_skipped(days: Iterable[str]) -> None:
    """Say on standard error which days are left out, and why."""
    labels = list(days)
    if labels:
        named = ", ".join(labels[:_DAYS_NAMED]) + ", …" * (len(labels) > _DAYS_NAMED)
        tell(f"zerocopy: days that lack a column are left out: {named} ({len(labels)} in all)")
