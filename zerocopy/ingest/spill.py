"""Records between their source and their day, which may be more than memory holds.

Owns the hidden directory `{root}/.import`, where each run has a place of its own. Records wait in
memory up to a bound, then they go to disk, as the columns of day files. What a source gave is kept
there with its summary once it is whole: a run that was killed does not read that source again. The
place of a run that ended, or of one that will not come back, is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NamedTuple, Self

import msgspec
import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import TIME_COLUMN
from zerocopy.ingest.arrange import Arrival, as_files, instants_of
from zerocopy.ingest.convert import INSTANT, ROW_HASH
from zerocopy.ingest.outcome import Key, Summary
from zerocopy.ingest.recipe import NANOS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from zerocopy.ingest.convert import Columns, Part

FOLDER = ".import"
MEMORY_BYTES = 192 << 20
"""Records that wait in memory: less than what polars takes to parse a block."""

DAY_BYTES = 4 << 20
"""Records of one day that wait: more would leave the processor's cache before they are written."""

_SUMMARY = "summary.json"

Identity = tuple[str, ...]


class SpillError(IngestError):
    """Records cannot be kept on the disk: no source can go on, and the next run begins there."""


class _KeptDay(msgspec.Struct):
    """A day of a source on disk; `is_ordered` and `repeats` are those of `Arrival`."""

    key: Key
    records: int = 0
    is_ordered: bool = False
    repeats: int = 0


class _Kept(msgspec.Struct):
    """The records of a source on disk: of the day at each place of `days` a file a field."""

    summary: Summary
    fields: list[tuple[str, str]]
    days: list[_KeptDay]


@dataclass(slots=True)
class _Waiting:
    """Records of a day that are not on the disk yet; `arrival` is of those that are."""

    pieces: list[Columns] = field(default_factory=list)
    nbytes: int = 0
    arrival: Arrival = field(default_factory=Arrival)


class SourceSpill:
    """The records of one source, by day, in the order in which they came."""

    def __init__(self, spill: Spill, folder: str) -> None:
        self._spill = spill
        self._folder = folder
        self._days: dict[Key, _Waiting] = {}
        self._kept = _Kept(Summary("", 0, [], [], []), [], [])
        self._places: dict[Key, int] = {}
        self._is_closed = False
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, part: Part) -> None:
        """Take some records.

        Raises:
            SpillError: they cannot be written.
        """
        key = (part.exchange, part.symbol, part.type, part.day)
        day = self._days.setdefault(key, _Waiting())
        nbytes = sum(column.nbytes for column in part.columns.values())
        day.pieces.append(part.columns)
        day.nbytes += nbytes
        if day.nbytes > DAY_BYTES:
            self._spill.count(nbytes - day.nbytes)
            self._spill.write(self, [key])
        else:
            self._spill.count(nbytes)

    def waiting(self) -> list[Key]:
        """The days of which records wait."""
        return [key for key, day in self._days.items() if day.pieces]

    def taken(self) -> dict[Key, list[Columns]]:
        """All records of a source that was never written; it forgets them."""
        days, self._days = self._days, {}
        return {} if self._places else {key: day.pieces for key, day in days.items()}

    def flush(self, keys: Iterable[Key]) -> None:
        """Write what waits of these days, and the summary if there is nothing more to come."""
        os.makedirs(self._folder, exist_ok=True)
        for key in keys:
            if key not in self._places:
                self._places[key] = len(self._places)
                self._kept.days.append(_KeptDay(key))
            place, day = self._places[key], self._days[key]
            for piece in day.pieces:
                day.arrival.add(piece)
            pieces, day.pieces, day.nbytes = [*map(_as_kept, day.pieces)], [], 0
            self._kept.fields = [(name, each.dtype.str) for name, each in pieces[0].items()]
            for name in pieces[0]:
                path = os.path.join(self._folder, f"{place}.{name}")
                with open(path, "ab", buffering=0) as file:
                    for piece in pieces:
                        view = memoryview(np.ascontiguousarray(piece[name]).view("u1").data)
                        while view:
                            view = view[file.write(view) :]
            entry = self._kept.days[place]
            entry.records += sum(len(piece[TIME_COLUMN]) for piece in pieces)
            entry.is_ordered, entry.repeats = day.arrival.is_ordered, day.arrival.repeats
        if self._is_closed:
            path = os.path.join(self._folder, _SUMMARY)
            with open(path + ".part", "wb") as file:
                file.write(msgspec.json.encode(self._kept))
            os.rename(path + ".part", path)

    def close(self, summary: Summary) -> None:
        """All is there. If some of it is on disk the rest goes there too."""
        self._kept.summary = summary
        self._is_closed = True
        if self._places:
            self._spill.write(self, self.waiting())

    def discard(self) -> None:
        """Nothing of this source is to be imported."""
        self._days = {}
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
        """Some more bytes wait, or less; above the bound all are written."""
        self._waiting_bytes += nbytes
        if self._waiting_bytes > MEMORY_BYTES:
            for source in self._sources.values():
                if keys := source.waiting():
                    self.write(source, keys)
            self._waiting_bytes = 0

    def write(self, source: SourceSpill, keys: Iterable[Key]) -> None:
        """Have on the disk what waits of some days of a source.

        Raises:
            SpillError: it cannot be; some of it may be there, so nobody may try it again.
        """
        try:
            source.flush(keys)
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
            pieces = source.taken() if source is not None else {}
            if pieces:
                index.add_memory(pieces)
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


class StoredColumn(NamedTuple):
    """The records of a column of one day, on disk. See `KeptColumn` of the writer."""

    path: str
    records: int
    itemsize: int

    def __len__(self) -> int:
        return self.records

    def write_to(self, fd: int) -> None:
        """Copy them; sendfile(2) takes a file for its target, since Linux 2.6.33."""
        at, stop = 0, self.records * self.itemsize
        with _opened(self.path) as kept:
            while at < stop:
                sent = os.sendfile(fd, kept.fileno(), at, stop - at)
                if not sent:
                    raise _cut_off(self.path)
                at += sent


class StoredDay(NamedTuple):
    """What a source has of a day, on disk."""

    folder: str
    place: int
    fields: list[tuple[str, str]]
    day: _KeptDay

    def load(self) -> Columns:
        """The records, in the order in which they came.

        Raises:
            IngestError: they cannot be read.
        """
        columns = {}
        for name, dtype in self.fields:
            with _opened(self._path(name)) as file:
                columns[name] = np.fromfile(file, dtype, self.day.records)
            if len(columns[name]) < self.day.records:
                raise _cut_off(self._path(name))
        own = {name: each for name, each in columns.items() if name not in {TIME_COLUMN, NANOS}}
        return {INSTANT: instants_of(columns), **own}

    def files(self, *, with_nanos: bool) -> dict[str, StoredColumn]:
        """The columns of the day file; they are of use if the records are in order."""
        sizes = {name: np.dtype(dtype).itemsize for name, dtype in self.fields}
        for name in {ROW_HASH} if with_nanos else {ROW_HASH, NANOS}:
            sizes.pop(name, None)
        count = self.day.records
        return {name: StoredColumn(self._path(name), count, size) for name, size in sizes.items()}

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, f"{self.place}.{name}")


class Index:
    """The pieces of each day, in memory or on disk."""

    def __init__(self) -> None:
        self._pieces: dict[Key, list[Columns | StoredDay]] = {}

    def add_memory(self, waiting: dict[Key, list[Columns]]) -> None:
        """A source that was never written."""
        for key, pieces in waiting.items():
            self._pieces.setdefault(key, []).extend(pieces)

    def add_files(self, folder: str, kept: _Kept) -> None:
        """A source that was."""
        for place, day in enumerate(kept.days):
            stored = StoredDay(folder, place, kept.fields, day)
            self._pieces.setdefault(day.key, []).append(stored)

    def ordered(self, key: Key) -> StoredDay | None:
        """A day that lies on the disk as its files are to be; None if it does not."""
        [piece, *others] = self._pieces[key]
        if others or not isinstance(piece, StoredDay) or not piece.day.is_ordered:
            return None
        return piece

    def take(self, key: Key) -> Columns:
        """The records of a day, in the order in which they came; memory forgets them.

        Raises:
            IngestError: they cannot be read from the disk.
        """
        found = self._pieces.pop(key)
        pieces = [each.load() if isinstance(each, StoredDay) else each for each in found]
        if len(pieces) == 1:
            return pieces[0]
        if any(ROW_HASH in piece for piece in pieces):
            # A source may have nothing besides the columns, where another one has.
            none = np.zeros(max(len(piece[INSTANT]) for piece in pieces), np.uint64)
            pieces = [{ROW_HASH: none[: len(piece[INSTANT])]} | piece for piece in pieces]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _as_kept(piece: Columns) -> Columns:
    """Records as they are kept: the columns of a day file, and the hash of the rest of the row."""
    hashes = {name: piece[name] for name in piece if name == ROW_HASH}
    return as_files(piece, with_nanos=True) | hashes


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise IngestError(f"{path}: cannot be read: {error.strerror}") from error


def _cut_off(path: str) -> IngestError:
    return IngestError(f"{path}: is cut off; remove {FOLDER} and run it again")


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
