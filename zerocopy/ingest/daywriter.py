"""Writes whole days of a series, so that no reader and no crash ever sees half of one.

Owns the directory of a series while it is written: the lock, the hidden names, the order of the
renames, and the mending of what a killed run has left. It must never know where records come from.

    1. write `.import.{column}.{day}.bin`, fsync        no query meets hidden names
    2. write `.import.{day}.ready`, fsync               from here on the day is replaced
    3. unlink `time`, and what the new day lacks        the day has no records
    4. rename the columns, then `time`                  the day is complete
    5. unlink `.import.{day}.ready`, or keep it as `.merged`

A run that is killed before 2 has changed nothing. One that is killed later is completed by
`SeriesWriter`, when it is opened next. Without step 3 a reader could get new prices beside old
times: for a moment, or, after a crash, for ever. A planning that has opened the old `time` in that
moment finds its name gone and a column younger than its begin, and starts anew
(storage/planner.py, `check_names`). By the note of step 2 the server knows that a series whose only
day has no `time` will have one again (storage/catalog.py, `has_column`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import msgspec
import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import (
    SWAP_PREFIX,
    SWAP_READY,
    SWAP_TOGETHER,
    TIME_COLUMN,
    day_label,
    file_name,
    parse_file_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from zerocopy.core.layout import Dtypes

    Column: TypeAlias = "NDArray[Any] | KeptColumn"

PREFIX, _TOGETHER = SWAP_PREFIX, SWAP_TOGETHER
_READY, _MERGED = SWAP_READY, ".merged"
_COPY_RECORDS = 1 << 18
_FILE_MODE = 0o644


class _Manifest(msgspec.Struct):
    """A day that is to be there: its columns, and how to know it again.

    `added` is the digest of what a merge added, or empty; `time_ns` and `time_bytes` are of its
    `time` file.
    """

    columns: list[str]
    added: str
    time_ns: int
    time_bytes: int


class _Days(msgspec.Struct):
    """Several days that are to be there at once: each with its columns."""

    days: dict[int, list[str]]


class KeptColumn(Protocol):
    """The records of a column that lie elsewhere, and write themselves."""

    def __len__(self) -> int: ...

    def write_to(self, fd: int) -> None:
        """Write all to an empty file; IngestError if they cannot be read."""


class SeriesWriter:
    """The one writer of a series; opening it completes or removes what a killed one has left.

        with SeriesWriter(root, ("binance", "BTCUSDT", "TRADES")) as writer:
            writer.write(20089, {"time": times, "price": prices})

    Raises:
        IngestError: another process writes the series, or its directory cannot be written.
    """

    def __init__(self, root: str, series: tuple[str, str, str]) -> None:
        self._folder = os.path.join(root, *series)
        self.name = "/".join(series)
        self._fd = -1
        self._days: dict[int, set[str]] = {}

    def __enter__(self) -> Self:
        try:
            _make_folders(self._folder)
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # flock(2) of the directory itself: no lock file that its removal would race for.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Nobody else changes names while the lock is held.
            self._days = days_of(self._fd)
            self._mend()
        except BaseException as error:
            self._close()
            if isinstance(error, BlockingIOError):
                raise IngestError(f"{self.name}: another process writes it") from error
            if isinstance(error, OSError):
                raise _unwritable(self._folder, error) from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def descriptor(self) -> int:
        """The directory, for as long as the series is locked."""
        assert self._fd >= 0, "used in a with statement"
        return self._fd

    def days(self) -> dict[int, set[str]]:
        """The columns of each day, as the directory has them now: files may have been appended."""
        self._days = days_of(self._fd)
        return self._days

    def columns_of(self, day: int) -> tuple[str, ...]:
        """The columns that have a file of `day`, sorted."""
        return tuple(sorted(self._days.get(day, ())))

    def holds(self, day: int, columns: Mapping[str, NDArray[Any]]) -> bool:
        """Whether the files of `day` are these columns, byte for byte."""
        if self.columns_of(day) != tuple(sorted(columns)):
            return False
        return all(self._is_equal(file_name(name, day), each) for name, each in columns.items())

    def is_even(self, day: int, dtypes: Dtypes) -> bool:
        """Whether all columns of a day have as many records, and nothing more."""
        lengths = {
            divmod(self._stat(file_name(name, day)).st_size, dtypes.of(name).nbytes)
            for name in self.columns_of(day)
        }
        return len(lengths) == 1 and not lengths.pop()[1]

    def read(self, day: int, dtypes: Dtypes) -> dict[str, NDArray[Any]]:
        """The aligned records of a day: as many as its shortest column has, whole ones only."""
        columns = {}
        for name in self.columns_of(day):
            dtype = np.dtype(dtypes.of(name).name)
            with open(self._open(file_name(name, day), os.O_RDONLY), "rb") as file:
                raw = file.read()
            columns[name] = np.frombuffer(raw, dtype, len(raw) // dtype.itemsize)
        length = min(map(len, columns.values()), default=0)
        return {name: column[:length] for name, column in columns.items()}

    def write(self, day: int, columns: Mapping[str, Column], *, added: str = "") -> None:
        """Have the files of `day` be these columns, in place of any it has.

        `added` is the digest of what was merged into it; `was_merged` knows it again.

        Raises:
            IngestError: they cannot be written; the day is as it was, or is completed when the
                series is opened next.
        """
        assert TIME_COLUMN in columns, "a day without times has no records"
        assert len({len(column) for column in columns.values()}) == 1, "columns are aligned"
        label = day_label(day)
        try:
            try:
                for name, column in columns.items():
                    self._write_file(PREFIX + file_name(name, day), column)
                status = self._stat(PREFIX + file_name(TIME_COLUMN, day))
                manifest = _Manifest([*columns], added, status.st_mtime_ns, status.st_size)
                self._write_file(f"{PREFIX}{label}.part", msgspec.json.encode(manifest))
            except (OSError, IngestError):
                self._remove_hidden(label)
                raise
            os.rename(
                f"{PREFIX}{label}.part",
                f"{PREFIX}{label}{_READY}",
                src_dir_fd=self._fd,
                dst_dir_fd=self._fd,
            )
            os.fsync(self._fd)
            self._complete(day, manifest)
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def write_together(self, days: Mapping[int, Mapping[str, NDArray[Any]]]) -> None:
        """Have the files of several days be these columns, all of them or none.

        No query sees a record that moves from one day to another in both, or in neither: while the
        files change, the days have no `time`, and so are skipped.

        Raises:
            IngestError: as `write`.
        """
        try:
            try:
                for day, columns in days.items():
                    for name, column in columns.items():
                        self._write_file(PREFIX + file_name(name, day), column)
                plan = _Days({day: [*columns] for day, columns in days.items()})
                self._write_file(_TOGETHER + ".part", msgspec.json.encode(plan))
            except OSError:
                for day in days:
                    self._remove_hidden(day_label(day))
                raise
            os.rename(_TOGETHER + ".part", _TOGETHER, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
            self._complete_together(plan)
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def was_merged(self, day: int, added: str) -> bool:
        """Whether the last merge into `day` added just this, and nothing has changed since."""
        try:
            manifest = self._manifest(f"{PREFIX}{day_label(day)}{_MERGED}")
            status = self._stat(file_name(TIME_COLUMN, day))
        except FileNotFoundError:
            return False
        kept = (manifest.added, manifest.time_ns, manifest.time_bytes)
        return kept == (added, status.st_mtime_ns, status.st_size)

    # ---- the steps of a day

    def _complete_together(self, plan: _Days) -> None:
        """Steps 3 to 5 of several days, from wherever a killed run has come."""
        for day in plan.days:
            name = file_name(TIME_COLUMN, day)
            if self._exists(PREFIX + name):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._fd)
                self._days.get(day, set()).discard(TIME_COLUMN)
        # No time may be there beside another day's new columns.
        os.fsync(self._fd)
        for day, columns in plan.days.items():
            self._swap(day, columns)
        os.fsync(self._fd)
        os.unlink(_TOGETHER, dir_fd=self._fd)
        os.fsync(self._fd)

    def _complete(self, day: int, manifest: _Manifest) -> None:
        """Steps 3 to 5, from wherever a killed run has come."""
        self._swap(day, manifest.columns)
        os.fsync(self._fd)
        ready = f"{PREFIX}{day_label(day)}{_READY}"
        merged = f"{PREFIX}{day_label(day)}{_MERGED}"
        if manifest.added:
            os.rename(ready, merged, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            os.unlink(ready, dir_fd=self._fd)
            with suppress(FileNotFoundError):
                os.unlink(merged, dir_fd=self._fd)
        os.fsync(self._fd)

    def _swap(self, day: int, columns: Sequence[str]) -> None:
        """Steps 3 and 4 of a day."""
        present = self.columns_of(day)
        time_name = file_name(TIME_COLUMN, day)
        # Once the hidden time has its name, all else has been done.
        if self._exists(PREFIX + time_name):
            if TIME_COLUMN in present:
                os.unlink(time_name, dir_fd=self._fd)
                # The time must be gone for good before another column comes.
                os.fsync(self._fd)
            for name in present:
                if name not in columns:
                    os.unlink(file_name(name, day), dir_fd=self._fd)
            for name in columns:
                if name != TIME_COLUMN and self._exists(PREFIX + file_name(name, day)):
                    self._reveal(file_name(name, day))
            os.fsync(self._fd)
            self._reveal(time_name)
        self._days[day] = {*columns}

    def _mend(self) -> None:
        """Complete the days that are ready, and remove what never became so."""
        hidden = sorted(name for name in os.listdir(self._fd) if name.startswith(PREFIX))
        for name in hidden:
            if name == _TOGETHER:
                with open(self._open(name, os.O_RDONLY), "rb") as file:
                    plan = msgspec.json.decode(file.read(), type=_Days)
                self._complete_together(plan)
            elif name.endswith(_READY):
                label = name.removeprefix(PREFIX).removesuffix(_READY)
                parsed = parse_file_name(f"{TIME_COLUMN}.{label}.bin")
                if parsed is not None:
                    self._complete(parsed[1], self._manifest(name))
        for name in hidden:
            if name.endswith((".bin", ".part")):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._fd)

    def _remove_hidden(self, label: str) -> None:
        for name in os.listdir(self._fd):
            if name.startswith(PREFIX) and name.endswith((f"{label}.bin", f"{label}.part")):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)

    def _reveal(self, name: str) -> None:
        os.rename(PREFIX + name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    # ---- files

    def _write_file(self, name: str, content: Column | bytes) -> None:
        fd = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with open(fd, "wb", buffering=0) as file:
            if isinstance(content, bytes | np.ndarray):
                rest = memoryview(content) if isinstance(content, bytes) else _bytes_of(content)
                while rest:
                    rest = rest[file.write(rest) :]
            else:
                content.write_to(fd)
            os.fsync(fd)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE, dir_fd=self._fd)

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def _exists(self, name: str) -> bool:
        try:
            self._stat(name)
        except FileNotFoundError:
            return False
        return True

    def _is_equal(self, name: str, column: NDArray[Any]) -> bool:
        if self._stat(name).st_size != column.nbytes:
            return False
        with open(self._open(name, os.O_RDONLY), "rb") as file:
            for at in range(0, len(column), _COPY_RECORDS):
                piece = np.ascontiguousarray(column[at : at + _COPY_RECORDS])
                if file.read(piece.nbytes) != piece.tobytes():
                    return False
        return True

    def _manifest(self, name: str) -> _Manifest:
        with open(self._open(name, os.O_RDONLY), "rb") as file:
            return msgspec.json.decode(file.read(), type=_Manifest)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def days_of(directory: int | str) -> dict[int, set[str]]:
    """The columns of each day that has files in a directory."""
    found: dict[int, set[str]] = {}
    for name in os.listdir(directory):
        parsed = parse_file_name(name)
        if parsed is not None:
            found.setdefault(parsed[1], set()).add(parsed[0])
    return found


def digest_of(columns: Mapping[str, NDArray[Any]]) -> str:
    """What tells these records from others, in any process."""
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype.str} {len(column)}\n".encode())
        digest.update(_bytes_of(column))
    return digest.hexdigest()


def _bytes_of(column: NDArray[Any]) -> memoryview:
    """The bytes of a column, which need not lie together."""
    return memoryview(np.ascontiguousarray(column).view("u1").data)


def _make_folders(folder: str) -> None:
    """As os.makedirs, and on the disk to stay."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder) or "."
    for path in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(path)
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _unwritable(folder: str, error: OSError) -> IngestError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return IngestError(f"{folder}: the disk is full; run the same command again when it is not")
    return IngestError(f"{folder}: cannot be written: {error.strerror}")
