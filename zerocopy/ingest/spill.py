"""Records between their source and their day: on disk, because they may be more than memory holds.

Owns the hidden directory `{root}/.import`, where each run has a place of its own. What a source
gave is kept there as a whole, with its summary: a run that was killed does not read it again. The
place of a run that ended, or of one that will not come back, is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np

from zerocopy.core.errors import IngestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing import Any

    from numpy.typing import NDArray

    from zerocopy.ingest.convert import Part

FOLDER = ".import"
BUFFER_BYTES = 64 << 20
"""Records that wait in memory until they are written, so that many days make few small writes."""

_SUMMARY = "summary.json"

Key = tuple[str, str, str, int]
"""Exchange, symbol, type, day."""


class DayCount(msgspec.Struct, frozen=True):
    """How many records of a day a source has, and which are its first and last by time."""

    key: Key
    records: int
    first: dict[str, str]
    last: dict[str, str]


class LossCount(msgspec.Struct, frozen=True):
    """A column's values, and those of them that f4 does not hold to their last digit."""

    column: str
    values: int
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


class SourceSpill:
    """The records of one source, by day, in the order in which they came."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._waiting: dict[Key, list[NDArray[Any]]] = {}
        self._waiting_bytes = 0
        self._numbers: dict[Key, int] = {}
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    def add(self, part: Part) -> None:
        """Take some records."""
        key = (part.exchange, part.symbol, part.type, part.day)
        self._waiting.setdefault(key, []).append(part.records)
        self._waiting_bytes += part.records.nbytes
        if self._waiting_bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for key, arrays in self._waiting.items():
            number = self._numbers.setdefault(key, len(self._numbers))
            with open(os.path.join(self._folder, str(number)), "ab", buffering=0) as file:
                for array in arrays:
                    view = memoryview(np.ascontiguousarray(array).view("u1"))
                    while view:
                        view = view[file.write(view) :]
        self._waiting, self._waiting_bytes = {}, 0

    def close(self, summary: Summary) -> None:
        """All is there: keep the summary, by which a later run believes it."""
        self.flush()
        order = [[*key] for key, _ in sorted(self._numbers.items(), key=lambda item: item[1])]
        path = os.path.join(self._folder, _SUMMARY)
        with open(path + ".part", "wb") as file:
            file.write(msgspec.json.encode({"summary": summary, "order": order}))
        os.rename(path + ".part", path)

    def discard(self) -> None:
        """Nothing of this source is to be imported."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _Kept(msgspec.Struct):
    summary: Summary
    order: list[Key]


class Spill:
    """The place of a run below a data root; `job` is equal for runs that would do the same.

    Raises:
        IngestError: the same import runs already, or the root cannot be written.
    """

    def __init__(self, root: str, job: str) -> None:
        self._top = os.path.join(root, FOLDER)
        self._folder = os.path.join(self._top, job)
        self._lock_fd = -1

    def __enter__(self) -> Self:
        try:
            self._lock_fd = _locked(self._folder)
        except BlockingIOError as error:
            raise IngestError("this import is running already") from error
        except OSError as error:
            raise IngestError(f"{self._top}: cannot be written: {error.strerror}") from error
        self._remove_others()
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

    def source(self, identity: tuple[str, ...] | int) -> SourceSpill:
        """Begin with a source, anew."""
        return SourceSpill(self._place(identity))

    def kept(self, identity: tuple[str, ...] | int) -> Summary | None:
        """What an earlier run has kept of a source as a whole."""
        found = self._kept(identity)
        return found.summary if found else None

    def index(self, identities: Iterable[tuple[str, ...] | int]) -> dict[Key, list[str]]:
        """Where the records of each day lie, those of a source in front of the next one's."""
        found: dict[Key, list[str]] = {}
        for identity in identities:
            kept = self._kept(identity)
            for number, key in enumerate(kept.order if kept else ()):
                found.setdefault(key, []).append(os.path.join(self._place(identity), str(number)))
        return found

    def _kept(self, identity: tuple[str, ...] | int) -> _Kept | None:
        try:
            with open(os.path.join(self._place(identity), _SUMMARY), "rb") as file:
                return msgspec.json.decode(file.read(), type=_Kept)
        except FileNotFoundError:
            return None

    def _place(self, identity: tuple[str, ...] | int) -> str:
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
