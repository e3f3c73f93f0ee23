"""Records between their source and their day, which may be more than memory holds.

Owns the hidden directory `{root}/.import`, where each run has a place of its own. Records wait in
memory up to a bound, then all of them go to disk. What a source gave is kept there with its summary
once it is whole: a run that was killed does not read that source again. The place of a run that
ended, or of one that will not come back, is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from zerocopy.core.errors import IngestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from zerocopy.ingest.convert import Columns, Part

FOLDER = ".import"
MEMORY_BYTES = 192 << 20
"""Records that wait in memory: less than what polars takes to parse a block."""

_SUMMARY = "summary.json"

Key = tuple[str, str, str, int]
"""Exchange, symbol, type, day."""

Identity = tuple[str, ...]


class SpillError(IngestError):
    """Records cannot be kept on the disk: no source can go on, and the next run begins there."""


class DayCount(msgspec.Struct, frozen=True):
    """How many records of a day a source has, and which are its first and last by time."""

    key: Key
    records: int
    first: dict[str, str]
    last: dict[str, str]


class LossCount(msgspec.Struct, frozen=True):
    """A column's values, how many are empty, and how many f4 does not hold to the last digit."""

    column: str
    values: int
    empty: int
    lost: int
    worst: float
    example: str


class Summary(msgspec.Struct, frozen=True):
    """What a source gave; `notes` are sentences of what was inferred."""

    name: str
    rows: int
    notes: list[str]
    losses: list[LossCount]
    days: list[DayCount]


class _Kept(msgspec.Struct):
    """The records of a source on disk: a file a day, of pieces, each column after column."""

    summary: Summary
    fields: list[tuple[str, str]]
    days: list[tuple[Key, list[int]]]


class SourceSpill:
    """The records of one source, by day, in the order in which they came."""

    def __init__(self, spill: Spill, folder: str) -> None:
        self._spill = spill
        self._folder = folder
        self.waiting: dict[Key, list[Columns]] = {}
        self._kept = _Kept(Summary("", 0, [], [], []), [], [])
        self._numbers: dict[Key, int] = {}
        self._is_closed = False
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, part: Part) -> None:
        """Take some records."""
        key = (part.exchange, part.symbol, part.type, part.day)
        self.waiting.setdefault(key, []).append(part.columns)
        self._spill.count(sum(column.nbytes for column in part.columns.values()))

    def flush(self) -> None:
        """Write what waits, and the summary if there is nothing more to come."""
        os.makedirs(self._folder, exist_ok=True)
        for key, pieces in self.waiting.items():
            if key not in self._numbers:
                self._numbers[key] = len(self._numbers)
                self._kept.days.append((key, []))
            number = self._numbers[key]
            with open(os.path.join(self._folder, str(number)), "ab", buffering=0) as file:
                for piece in pieces:
                    self._kept.fields = [(name, each.dtype.str) for name, each in piece.items()]
                    self._kept.days[number][1].append(len(next(iter(piece.values()))))
                    for column in piece.values():
                        view = memoryview(np.ascontiguousarray(column).view("u1").data)
                        while view:
                            view = view[file.write(view) :]
        self.waiting = {}
        if self._is_closed:
            path = os.path.join(self._folder, _SUMMARY)
            with open(path + ".part", "wb") as file:
                file.write(msgspec.json.encode(self._kept))
            os.rename(path + ".part", path)

    def close(self, summary: Summary) -> None:
        """All is there. If some of it is on disk the rest goes there too."""
        self._kept.summary = summary
        self._is_closed = True
        if self._numbers:
            self._spill.write(self)

    def discard(self) -> None:
        """Nothing of this source is to be imported."""
        self.waiting = {}
        shutil.rmtree(self._folder, ignore_errors=True)


class Spill:
    """The place of a run below a data root; `job` is equal for runs that would do the same.

    Raises:
        IngestError: the same import runs already, or the root cannot be written.
    """

    def __init__(self, root: str, job: str) -> None:
        self._top = os.path.join(root, FOLDER)
        self._folder = os.path.join(self._top, job)
        self._waiting_bytes = 0
        self._sources: dict[Identity, SourceSpill] = {}
        self._lock_fd = -1

    def __enter__(self) -> Self:
        try:
            self._lock_fd = _locked(self._folder)
            self._remove_others()
        except BlockingIOError as error:
            raise IngestError("this import is running already") from error
        except OSError as error:
            raise IngestError(f"{self._top}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What an error or Ctrl-C has ended goes on with the next run, as after a kill.
        if kind is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock_fd)
        try:
            os.rmdir(self._top)
        except OSError:
            return  # another run has its place there, or this one goes on later

    def source(self, identity: Identity) -> SourceSpill:
        """Begin with a source, anew."""
        self._sources[identity] = SourceSpill(self, self._place(identity))
        return self._sources[identity]

    def count(self, nbytes: int) -> None:
        """Some more bytes wait; above the bound all are written."""
        self._waiting_bytes += nbytes
        if self._waiting_bytes > MEMORY_BYTES:
            for source in self._sources.values():
                if source.waiting:
                    self.write(source)
            self._waiting_bytes = 0

    def write(self, source: SourceSpill) -> None:
        """Have on the disk what waits of a source.

        Raises:
            SpillError: it cannot be; some of it may be there, so nobody may try it again.
        """
        try:
            source.flush()
        except OSError as error:
            raise SpillError(f"{self._top}: cannot be written: {error.strerror}") from error

    def kept(self, identity: Identity) -> Summary | None:
        """What an earlier run has kept of a source as a whole."""
        found = self._kept(identity)
        return found.summary if found else None

    def index(self, identities: list[Identity]) -> Index:
        """Where the records of each day are, those of a source before the next one's."""
        index = Index()
        for identity in identities:
            source = self._sources.get(identity)
            if source is not None and source.waiting:
                index.add_memory(source.waiting)
                source.waiting = {}
            else:
                kept = self._kept(identity)
                if kept is not None:
                    index.add_files(self._place(identity), kept)
        return index

    def _kept(self, identity: Identity) -> _Kept | None:
        try:
            with open(os.path.join(self._place(identity), _SUMMARY), "rb") as file:
                return msgspec.json.decode(file.read(), type=_Kept)
        except FileNotFoundError:
            return None

    def _place(self, identity: Identity) -> str:
        return os.path.join(self._folder, digest(identity))

    def _remove_others(self) -> None:
        """Remove what killed runs have left that are not this one."""
        for name in os.listdir(self._top):
            path = os.path.join(self._top, name)
            if path == self._folder:
                continue
            try:
                fd = _locked(path)
            except OSError:
                continue  # it runs
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)


class Index:
    """The pieces of each day, in memory or on disk."""

    def __init__(self) -> None:
        self._pieces: dict[Key, list[Columns | tuple[str, list[tuple[str, str]], list[int]]]] = {}

    def add_memory(self, waiting: dict[Key, list[Columns]]) -> None:
        """A source that was never written."""
        for key, pieces in waiting.items():
            self._pieces.setdefault(key, []).extend(pieces)

    def add_files(self, folder: str, kept: _Kept) -> None:
        """A source that was."""
        for number, (key, counts) in enumerate(kept.days):
            path = os.path.join(folder, str(number))
            self._pieces.setdefault(key, []).append((path, kept.fields, counts))

    def take(self, key: Key) -> Columns:
        """The records of a day, in the order in which they came; memory forgets them.

        Raises:
            IngestError: they cannot be read from the disk.
        """
        pieces = list(self._loaded(key))
        if len(pieces) == 1:
            return pieces[0]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _loaded(self, key: Key) -> Iterator[Columns]:
        for piece in self._pieces.pop(key):
            if isinstance(piece, dict):
                yield piece
            else:
                yield from _read(*piece)


def _read(path: str, fields: list[tuple[str, str]], counts: list[int]) -> Iterator[Columns]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise IngestError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        for count in counts:
            piece: dict[str, np.ndarray[Any, Any]] = {}
            for name, dtype in fields:
                piece[name] = np.fromfile(file, dtype, count)
                if len(piece[name]) < count:
                    raise IngestError(f"{path}: is cut off; remove {FOLDER} and run it again")
            yield piece


def digest(value: object) -> str:
    """A name for `value`, the same in every process."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:24]


def _locked(folder: str) -> int:
    """A descriptor of the directory, made and locked; it is the one that has the name.

    Raises:
        BlockingIOError: another process has it.
    """
    while True:
        os.makedirs(folder, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                return fd
        except FileNotFoundError:
            pass  # its owner has ended meanwhile, and removed it
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
