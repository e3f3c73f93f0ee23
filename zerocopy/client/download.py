"""A body as a file, which appears under its name once it is whole.

Owns `NAME.part`, the bytes that have come, and `NAME.part.json`, which says of what: the request
and the ETag. Who finds both resumes them by If-Range, in this run or in a later one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zerocopy.client.errors import BadRequest, WriteFailed
from zerocopy.client.requests import Call, span_parameters, target_of
from zerocopy.client.sinks import finish, require_end
from zerocopy.client.times import span

if TYPE_CHECKING:
    from zerocopy.client.requests import Series
    from zerocopy.client.response import Response
    from zerocopy.client.sinks import Progress
    from zerocopy.client.times import TimeLike

FORMATS = {
    ".bin": "columns",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""The format that the ending of a name asks for."""

PIECE_BYTES = 1 << 20
PIECE_S = 0.05
"""Bytes of one write at most; a read after so many seconds ends the piece."""


def download(  # noqa: PLR0917 - as its two callers have them
    of: Series,
    path: str | os.PathLike[str],
    start: TimeLike | None,
    end: TimeLike | None,
    format_: str | None,
    progress: Progress | None,
) -> Call[Path]:
    """GET /api/data into a file.

    Raises:
        BadRequest: a time is malformed, or no format fits the name.
    """
    target = Path(path)
    if not target.name:
        raise BadRequest(f"path: {os.fspath(path)!r} must name a file")
    if format_ is None:
        format_ = FORMATS.get(target.suffix.lower(), "")
    if format_ not in FORMATS.values():
        raise BadRequest(
            f"format: {target.name!r} must end with one of {', '.join(FORMATS)}, or format be one "
            f"of {', '.join(dict.fromkeys(FORMATS.values()))}"
        )
    parameters = of.parameters() | span_parameters(*span(start, end)) | {"format": format_}
    url = target_of("/api/data", parameters)
    sink = FileSink(target, url, progress)
    return Call(url, sink, sink.result, sink)


class FileSink:
    """Takes a body into `NAME.part`; to be entered, which opens and locks it."""

    def __init__(self, path: Path, url: str, progress: Progress | None) -> None:
        self.received = 0
        self.tag: str | None = None
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self._url = url
        self._progress = progress
        self._fd = -1

    def __enter__(self) -> Self:
        """Open the part, and find out how much of it is of use."""
        if self._path.is_dir():  # told before the body comes, not behind it
            raise WriteFailed(f"{self._path}: is a directory; name a file in it")
        try:
            self._fd = self._open()
            self.tag = self._noted_tag()
            if self.tag is not None:
                # The last byte comes again: a range that begins at the end would be a 416.
                self.received = max(0, os.fstat(self._fd).st_size - 1)
        except OSError as error:
            self._close()
            raise self._failure(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the part; without a byte in it, it goes."""
        with suppress(OSError):
            if self._fd >= 0 and not os.fstat(self._fd).st_size:
                self._part.unlink()
                self._note.unlink()
        self._close()

    def restart(self, tag: str | None) -> None:
        """Empty the part, and note the ETag of what comes."""
        try:
            os.ftruncate(self._fd, 0)
            self._note.write_text(json.dumps({"request": self._url, "etag": tag}), "utf-8")
        except OSError as error:
            raise self._failure(error) from error
        self.received = 0
        self.tag = tag

    def take(self, response: Response) -> None:
        """Append a response to the part.

        Raises:
            WriteFailed: the disk is full, or fails.
        """
        require_end(response)
        total = None if response.length is None else self.received + response.length
        piece = memoryview(bytearray(PIECE_BYTES))
        with response.waiting_in_kernel():
            while self._take_piece(response, piece):
                if self._progress is not None:
                    self._progress(self.received, total)
        finish(response)
        if self._progress is not None and total is None:
            self._progress(self.received, self.received)

    def _take_piece(self, response: Response, piece: memoryview) -> bool:
        """Write one piece, also what has come of it before a break. Returns False at the end."""
        filled, end_s = 0, time.monotonic() + PIECE_S
        try:
            while count := response.read_some(piece[filled:]):
                filled += count
                if filled == len(piece) or time.monotonic() > end_s:
                    break
        finally:
            try:
                self._write(piece[:filled])
            except OSError as error:
                raise self._failure(error) from error
        return filled > 0

    def result(self) -> Path:
        """Give the file its name, once it is on the disk."""
        try:
            os.fsync(self._fd)
            self._part.replace(self._path)
            self._note.unlink(missing_ok=True)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failure(error) from error
        return self._path

    def _open(self) -> int:
        while True:
            fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had the lock may have renamed it meanwhile.
                if os.path.samestat(os.fstat(fd), os.stat(self._part)):
                    return fd
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(fd)
                raise
            os.close(fd)

    def _noted_tag(self) -> str | None:
        """The ETag of what the part has, if it is of this request."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
            tag = note["etag"] if note["request"] == self._url else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return tag if isinstance(tag, str) else None

    def _write(self, piece: memoryview) -> None:
        while piece:
            count = os.pwrite(self._fd, piece, self.received)
            self.received += count
            piece = piece[count:]

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _failure(self, error: OSError) -> WriteFailed:
        if isinstance(error, BlockingIOError):
            return WriteFailed(f"{self._path}: another download is writing it")
        reason = (error.strerror or type(error).__name__).lower()
        kept = f"; {self.received:,} bytes are kept in {self._part.name}" if self.received else ""
        return WriteFailed(f"{self._path}: {reason}{kept}")
