"""Files to import, whatever they are wrapped in: what they hold, and a stream of its bytes.

Owns the choice of files (names, globs, members of zip archives, standard input) and the layers
around their content (gzip, zstd). The content decides what a file is, by its first bytes; its name
decides nothing. It must never know rows or columns.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, cast

from zerocopy.core.errors import ConfigError, IngestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["CSV", "NDJSON", "Parquet", "Arrow file", "Arrow stream", "DBN"]

STDIN = "-"
PEEK_BYTES = 4096
"""Enough to tell the kind of a text that begins with blank lines."""

_COPY_BYTES = 1 << 20
_LAYERS_MAX = 3  # a gzip in a gzip happens; a bomb of them is none of ours
_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow file"),
    (b"\xff\xff\xff\xff", "Arrow stream"),
    (b"DBN", "DBN"),
)
_WRAPPED = "a gzip, zip or zstd"


class Source(NamedTuple):
    """A file, or a member of a zip archive; `path` is None for standard input."""

    path: str | None
    member: str | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        if self.path is None:
            return "standard input"
        return f"{self.path}!{self.member}" if self.member else self.path

    @property
    def base(self) -> str:
        """The name that may tell a symbol: the member's, else the file's, without its folder."""
        return os.path.basename(self.member or self.path or "")

    def identity(self) -> tuple[str, ...] | None:
        """What changes when the file does; None if it cannot be read twice."""
        if self.path is None:
            return None
        status = os.stat(self.path)
        fields = (os.path.realpath(self.path), self.member or "", status.st_size)
        return (*map(str, fields), str(status.st_mtime_ns))


class Opened(NamedTuple):
    """A source that is being read: its kind, its layers, and the bytes within them.

    `path` is where the bytes lie as a file, for kinds that are not read from front to back.
    `position` tells how many bytes of the outermost layer have been read.
    """

    kind: Kind
    layers: tuple[str, ...]
    stream: IO[bytes]
    path: str | None
    position: Callable[[], int]


def list_sources(arguments: Sequence[str]) -> list[Source]:
    """The sources that the command line names, in its order; what a glob finds by name.

    Raises:
        ConfigError: a file is named twice, does not exist or is a directory; a glob finds nothing.
    """
    paths: list[str] = []
    for argument in arguments:
        if argument == STDIN or os.path.lexists(argument):
            found = [argument]
        else:
            found = sorted(glob.glob(argument, recursive=True))
        if not found:
            raise ConfigError(f"{argument}: no such file")
        paths += found
    sources = [source for path in paths for source in _members(path)]
    seen: set[tuple[object, ...]] = set()
    for source in sources:
        key = (_inode(source.path), source.member)
        if key in seen:
            raise ConfigError(f"{source.name}: is named twice; its rows would be imported twice")
        seen.add(key)
    return sources


def _inode(path: str | None) -> tuple[int, int] | None:
    """What is the same for all names of a file: `./a.csv` and links to it."""
    if path is None:
        return None
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _members(path: str) -> list[Source]:
    if path == STDIN:
        return [Source(None)]
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a directory; name its files, or a glob: '{path}/*'")
    try:
        if not _is_zip(path):
            return [Source(path)]
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return [Source(path, name) for name in names if not name.startswith("__MACOSX/")]


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


@contextmanager
def open_source(source: Source) -> Iterator[Opened]:
    """Open a source, its layers taken off, for as long as the block runs.

    Raises:
        IngestError: it cannot be read, is damaged, or is of no kind that can be imported.
    """
    try:
        with _raw(source) as raw, tempfile.TemporaryFile() as spool:
            stream, layers = _unwrapped(source, raw)
            kind = _kind_of(source, stream)
            path = None if layers or source.member else source.path
            if kind not in {"CSV", "NDJSON", "DBN"} and path is None:
                # Parquet and Arrow are read from their end: without a file there is none.
                while piece := stream.read(_COPY_BYTES):
                    spool.write(piece)
                spool.flush()
                path = f"/proc/self/fd/{spool.fileno()}"
            yield Opened(kind, layers, stream, path, _position(source, raw))
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise IngestError(f"{source.name}: is cut off or damaged ({error})") from error
    except OSError as error:
        raise IngestError(f"{source.name}: cannot be read: {error.strerror or error}") from error


def _position(source: Source, raw: IO[bytes]) -> Callable[[], int]:
    return raw.tell if source.path is not None and source.member is None else int


@contextmanager
def _raw(source: Source) -> Iterator[IO[bytes]]:
    if source.path is None:
        yield sys.stdin.buffer
    elif source.member is None:
        with open(source.path, "rb") as file:
            yield file
    else:
        with zipfile.ZipFile(source.path) as archive:
            try:
                member = archive.open(source.member)
            except (RuntimeError, NotImplementedError) as error:  # encrypted, unknown method
                raise IngestError(f"{source.name}: cannot be read: {error}") from error
            with member:
                yield member


def _unwrapped(source: Source, raw: IO[bytes]) -> tuple[io.BufferedReader, tuple[str, ...]]:
    layers: list[str] = []
    stream = _peekable(raw)
    while True:
        head = stream.peek(PEEK_BYTES)[:4]
        if head[:2] == b"\x1f\x8b":
            layers.append("gzip")
            stream = _peekable(cast("IO[bytes]", gzip.GzipFile(fileobj=stream)))
        elif head == b"\x28\xb5\x2f\xfd":
            layers.append("zstd")
            try:
                stream = io.BufferedReader(_Unzstd(stream), _COPY_BYTES)
            except ImportError:
                raise IngestError(f"{source.name}: is zstd: pip install zstandard") from None
        elif head == b"PK\x03\x04":
            raise IngestError(
                f"{source.name}: is a zip archive inside another; unpack it first"
                if source.path
                else "standard input: is a zip archive, which is read from its end; name the file"
            )
        else:
            return stream, tuple(layers)
        if len(layers) > _LAYERS_MAX:
            raise IngestError(f"{source.name}: is {_WRAPPED} in more than {_LAYERS_MAX} others")


class _Raw(io.RawIOBase):
    """What has only `read` as a raw stream, so that it can be buffered."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._inner.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _peekable(stream: IO[bytes]) -> io.BufferedReader:
    if isinstance(stream, io.BufferedReader):
        return stream
    return io.BufferedReader(_Raw(stream), _COPY_BYTES)


class _Unzstd(io.RawIOBase):
    """As zstandard's own reader, which takes a frame that is cut off for its end; this says so."""

    def __init__(self, inner: io.BufferedReader) -> None:
        import zstandard  # noqa: PLC0415 - the extra `import`; only for what is compressed so

        self._error = zstandard.ZstdError
        self._begin: Callable[[], Any] = zstandard.ZstdDecompressor().decompressobj
        self._inner = inner
        self._decoder = self._begin()
        self._is_amid = False
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = self._inner.read1(_COPY_BYTES)
            if not piece:
                if self._is_amid:
                    raise EOFError("the zstd frame has no end")
                return 0
            try:
                self._rest = memoryview(b"".join(self._decoded(piece)))
            except self._error as error:
                raise EOFError(str(error)) from error
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _decoded(self, piece: bytes) -> Iterator[bytes]:
        """A file may hold several frames, as pzstd writes them."""
        while piece:
            yield self._decoder.decompress(piece)
            self._is_amid, piece = not self._decoder.eof, self._decoder.unused_data
            if not self._is_amid:
                self._decoder = self._begin()


def _kind_of(source: Source, stream: io.BufferedReader) -> Kind:
    head = stream.peek(PEEK_BYTES)[:PEEK_BYTES]
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise IngestError(f"{source.name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    return "NDJSON" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else "CSV"
