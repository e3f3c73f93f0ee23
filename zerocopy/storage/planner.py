"""From a query to a plan: which days, which records of each, which bytes of which file.

Owns the instant of planning: every length and every bound of a response is read here, after its
request arrived, from descriptors opened for it. It blocks on the disk and so runs in threads; the
event loop's thread gets the finished plan.

Besides the plan it returns a `Proof`: the stamps that must all be unchanged for the same query to
have the same response. The directory is part of it only if a calendar day of the range has no file
or lacks a column, because only then can a new name change the response.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from zerocopy.core.errors import DataChangedError, DataError, NotFoundError
from zerocopy.core.http.validators import Validators, validators_of
from zerocopy.core.layout import (
    TIME_COLUMN,
    Dtypes,
    day_label,
    day_of,
    file_name,
    parse_file_name,
)
from zerocopy.core.plan import HELD_FILES_MAX, Column, DayRecords, Plan
from zerocopy.core.query import check_extent
from zerocopy.core.timeindex import UnsortedError, record_range
from zerocopy.storage.catalog import RACY_NS, Catalog, Stamp, stamp_of
from zerocopy.storage.dayfile import DayFile, OpenFiles, TimeFile
from zerocopy.storage.pread import read_exactly
from zerocopy.storage.proof import Proof
from zerocopy.storage.rollups import TreeDays
from zerocopy.storage.tree import Series, close_file, data_error, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from zerocopy.core.plan import Represent, Representation, Segment
    from zerocopy.core.query import Query
    from zerocopy.core.settling import Settling
    from zerocopy.storage.catalog import Listing
    from zerocopy.storage.rollups import DaySource, Rollups

_ATTEMPTS = 3
"""How often planning starts anew if a file vanishes or is replaced meanwhile."""

CLOCK_TICK_NS = 10_000_000
"""A tick of the slowest kernel clock (HZ=100): a change time may lie so far before its change."""

_HELD_CLOSED_MAX = 64
"""Descriptors a planning thread holds for files of closed days, of `HELD_FILES_MAX` in all; further
files are opened again when sent."""

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """The representation of a response with what was learned on the way.

    `content` is the whole of it if it is small, else None. `closes_s` is the unix second from which
    every day of the response is closed. `held` are open descriptors that the receiver owns from now
    on. `skipped` are the days left out, `unsound` those that `zerocopy verify` would complain
    about, with its word.
    """

    representation: Representation
    content: bytes | None
    validators: Validators
    closes_s: float
    proof: Proof
    skipped: tuple[int, ...]
    held: tuple[tuple[DayFile, int], ...]
    unsound: tuple[tuple[int, str], ...] = ()

    def close(self) -> None:
        """Close what is held, because no receiver takes it."""
        for _, fd in self.held:
            close_file(fd)


class QueryPlanner(Protocol):
    """Whatever plans queries: over files, or over an object store."""

    dtypes: Dtypes
    settling: Settling
    rollups: Rollups | None
    day_source: DaySource

    def plan(self, query: Query, represent: Represent) -> Planned:
        """Plan `query` in the shape that `represent` gives it; see `Planner.plan`."""


class Planner:
    """Plans queries over one data root. Safe to call from several threads.

    `rollups`, if there are any, are for what is computed from its plans.
    """

    def __init__(
        self,
        *,
        root: str,
        files: OpenFiles,
        dtypes: Dtypes,
        settling: Settling,
        days_max: int,
        segments_max: int,
        small_answer_bytes_max: int,
        rollups: Rollups | None = None,
    ) -> None:
        self._root = root
        self._files = files
        self._catalog = Catalog()
        self.dtypes = dtypes
        self.settling = settling
        self.rollups = rollups
        self.day_source: DaySource = TreeDays(root)
        self._days_max = days_max
        self._segments_max = segments_max
        self._small_answer_bytes_max = small_answer_bytes_max

    def plan(self, query: Query, represent: Represent) -> Planned:
        """Plan `query` in the shape that `represent` gives it, true as of this call.

        Raises:
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            BadRequestError: the range holds more days or segments than the limits allow.
            DataError: a directory or a file cannot be read, or a day's times are not sorted.
        """
        series = Series(query.exchange, query.symbol, query.type)
        changed: Exception | None = None
        for _ in range(_ATTEMPTS):
            planning = _Planning(self._files, series, query, self.settling)
            try:
                return self._plan_once(planning, series, query, represent)
            except FileNotFoundError as error:
                changed = error
            except DataChangedError as error:
                changed = error
                time.sleep(CLOCK_TICK_NS / _NS_PER_S)  # until the young stamp is old enough
            except OSError as error:
                raise data_error(error) from error
            finally:
                planning.close()
        raise DataError("the day files changed faster than they could be read") from changed

    def _plan_once(
        self, planning: _Planning, series: Series, query: Query, represent: Represent
    ) -> Planned:
        begun_ns = time.time_ns()
        with open_series(self._root, series) as directory_fd:
            listing = self._catalog.listing(series, directory_fd)
            days = self._select_days(listing, directory_fd, query)
            wanted = dict.fromkeys((TIME_COLUMN, *query.columns))
            dtypes = {column: self.dtypes.of(column) for column in wanted}
            sizes = {column: dtype.nbytes for column, dtype in dtypes.items()}
            skipped = tuple(day for day in days if not wanted.keys() <= listing.columns_of(day))
            left_out = frozenset(skipped)
            planning.note_skipped(directory_fd, listing, skipped)
            present = [day for day in days if day not in left_out]
            day_records = planning.read_days(directory_fd, present, sizes)
            if not listing.is_unchanged(directory_fd, begun_ns):
                planning.check_names(directory_fd, begun_ns)
            columns = tuple(Column(name, dtypes[name]) for name in query.columns)
            found = represent(Plan(columns, day_records, skipped, series._asdict()))
            content = None
            if found.nbytes <= self._small_answer_bytes_max:
                parts = planning.read_segments(directory_fd, found.segments)
                content = b"".join((found.content, *parts))
        first_day, last_day = day_of(query.start_s), day_of(query.end_s)
        if len(day_records) < last_day - first_day + 1:
            planning.stamps.append((planning.directory, listing.stamp))
        youngest_ns = max((stamp.changed_ns for _, stamp in planning.stamps), default=0)
        return Planned(
            representation=found,
            content=content,
            validators=validators_of(found.content, planning.validated, found.tag),
            # What a skipped day lacks may still come, as a day may that has no file at all.
            closes_s=max(
                planning.closes_s, self.settling.gaps_close_s(first_day, last_day, present)
            ),
            proof=Proof(
                tuple(planning.stamps),
                reusable=youngest_ns < begun_ns - RACY_NS,
                lost=planning.lost,
            ),
            skipped=skipped,
            held=() if content is not None else planning.hand_over(),
            unsound=tuple(planning.unsound),
        )

    def _select_days(self, listing: Listing, directory_fd: int, query: Query) -> list[int]:
        for column in query.columns:
            if not listing.has_column(column, directory_fd):
                raise NotFoundError(f"column {column}: no day of {query.symbol} has it")
        days = listing.between(day_of(query.start_s), day_of(query.end_s))
        check_extent(query, len(days), self._days_max, self._segments_max)
        return days


class _Planning:
    """The files and stamps of one attempt; closes what it opened unless handed over."""

    def __init__(self, files: OpenFiles, series: Series, query: Query, settling: Settling) -> None:
        self._files = files
        self._series = series
        self._query = query
        self._settling = settling
        self._held: dict[DayFile, int] = {}
        self.validated: list[tuple[int, int, int, int]] = []
        self.closes_s = 0.0
        self.directory = os.path.join(files.root, *series)
        self.lost: list[str] = []
        self.stamps: list[tuple[str, Stamp]] = []
        self.unsound: list[tuple[int, str]] = []

    def read_days(
        self, directory_fd: int, days: list[int], sizes: dict[str, int]
    ) -> list[DayRecords]:
        """The records of `days`, or of those at the end that hold the `last` of them.

        No earlier day is opened then: what it holds does not change the response.
        """
        left = self._query.last
        if left is None:
            return [self.read_day(directory_fd, day, sizes) for day in days]
        found: list[DayRecords] = []
        for day in reversed(days):
            found.append(self.read_day(directory_fd, day, sizes, left))
            left -= found[-1].records.stop - found[-1].records.first
            if not left:
                break
        return found[::-1]

    def read_day(
        self, directory_fd: int, day: int, sizes: dict[str, int], last: int | None = None
    ) -> DayRecords:
        """The records of `day` in the range; `sizes` names `time` and the columns asked for.

        At most the `last` of them. The day's length is the shortest column in whole records, so a
        torn tail and a column that lags behind are left out together.

        Raises:
            DataError: a file cannot be read, or what was read of `time` is not sorted.
        """
        opened: dict[str, tuple[int, os.stat_result]] = {}
        try:
            for column in sizes:
                opened[column] = open_file(directory_fd, file_name(column, day))
            length = min(opened[column][1].st_size // size for column, size in sizes.items())
            times = TimeFile(opened[TIME_COLUMN][0], length)
            records = record_range(times, self._query.start_s, self._query.end_s)
            if last is not None:
                records = records._replace(first=max(records.first, records.stop - last))
            statuses = [status for _, status in opened.values()]
            day_files = self._day_files(day, statuses, sizes)
            if length and not day_of(times.first_s) == day == day_of(times.last_s):
                self.unsound.append((day, "outside"))
            if day_files[TIME_COLUMN].is_closed and any(
                status.st_size != length * size
                for status, size in zip(statuses, sizes.values(), strict=True)
            ):
                self.unsound.append((day, "uneven"))
        except BaseException as error:
            for fd, _ in opened.values():
                close_file(fd)
            if isinstance(error, UnsortedError):
                # The cause is for the log, which may name the file.
                cause = UnsortedError(f"{self.directory}/{file_name(TIME_COLUMN, day)}: {error}")
                raise DataError(f"the times of {day_label(day)} are not sorted") from cause
            raise
        count = records.stop - records.first
        for (column, size), (fd, _) in zip(sizes.items(), opened.values(), strict=True):
            day_file = day_files[column]
            stamp = records.first * size, count * size, day_file.size, day_file.modified_ns
            self.validated.append(stamp)
            self._hold_or_close(day_file, fd)
        return DayRecords(day, records, [day_files[column] for column in self._query.columns])

    def read_segments(self, directory_fd: int, segments: Sequence[Segment]) -> Iterator[bytes]:
        """The bytes of every segment of a small response, in order."""
        for segment in segments:
            source = segment.source
            if not isinstance(source, DayFile):  # made by the format, and in memory
                yield source.read(segment.offset, segment.count)
                continue
            fd = self._held.get(source)
            if fd is not None:
                yield _read_planned(source, fd, segment)
                continue
            fd, status = open_file(directory_fd, source.name)
            try:
                source.check_reopened(status)
                yield _read_planned(source, fd, segment)
            finally:
                close_file(fd)

    def note_skipped(self, directory_fd: int, listing: Listing, skipped: tuple[int, ...]) -> None:
        """A skipped day that is still being written keeps the response open: its column may come.

        Raises:
            FileNotFoundError: a file vanished; the listing is out of date.
        """
        for day in skipped:
            changed_ns = 0
            for column in listing.columns_of(day):
                name = file_name(column, day)
                status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
                changed_ns = max(changed_ns, status.st_mtime_ns, status.st_ctime_ns)
                self.stamps.append((f"{self.directory}/{name}", stamp_of(status)))
            self.closes_s = max(self.closes_s, self._settling.closes_s(day, changed_ns))

    def check_names(self, directory_fd: int, begun_ns: int) -> None:
        """Assure that the files of each day that were opened had their names at the same time.

        Else a day that is replaced file by file could be read as it never was: some columns opened
        before the first rename, others after the last. So could a record that moves to the day
        beside its own, when both are replaced. A file that is replaced alone is no fault: it was
        there together with the others, which are older than this planning.

        Raises:
            DataChangedError: several files of a day, or of two that follow one another, have
                changed since `begun_ns`, a unix time.
        """
        replaced, young = Counter[int](), set[int]()
        for path, stamp in self.stamps:
            name = os.path.basename(path)
            parsed = parse_file_name(name)
            assert parsed is not None, "a name that this planning has spelled"
            day = parsed[1]
            if not _is_named(directory_fd, name, stamp):
                replaced[day] += 1
            elif stamp.changed_ns >= begun_ns - CLOCK_TICK_NS:
                young.add(day)
        beside = {day + step for day in young for step in (-1, 0, 1)}
        if any(count > 1 or day in beside for day, count in replaced.items()):
            raise DataChangedError("day files were replaced while their day was read")

    def hand_over(self) -> tuple[tuple[DayFile, int], ...]:
        """The held descriptors, no longer this planning's to close."""
        held, self._held = tuple(self._held.items()), {}
        return held

    def close(self) -> None:
        """Close what is still held."""
        for _, fd in self.hand_over():
            close_file(fd)

    def _day_files(
        self, day: int, statuses: Sequence[os.stat_result], columns: Iterable[str]
    ) -> dict[str, DayFile]:
        """The files of a day that was read, closed or open as a whole; notes their stamps."""
        changed_ns = max(max(status.st_mtime_ns, status.st_ctime_ns) for status in statuses)
        closes_s = self._settling.closes_s(day, changed_ns)
        self.closes_s = max(self.closes_s, closes_s)
        is_closed = closes_s <= time.time()
        day_files = {}
        for column, status in zip(columns, statuses, strict=True):
            name = file_name(column, day)
            day_files[column] = DayFile(
                self._files, self._series, name, status, is_closed=is_closed, lost=self.lost
            )
            self.stamps.append((f"{self.directory}/{name}", stamp_of(status)))
        return day_files

    def _hold_or_close(self, day_file: DayFile, fd: int) -> None:
        # A file of an open day cannot be opened again once it has grown.
        if len(self._held) < (_HELD_CLOSED_MAX if day_file.is_closed else HELD_FILES_MAX):
            self._held[day_file] = fd
        else:
            close_file(fd)


def _read_planned(source: DayFile, fd: int, segment: Segment) -> bytes:
    """The bytes of a segment, of a closed day as it was when its validators were made.

    Raises:
        DataChangedError: the file is shorter, or was written over meanwhile.
    """
    data = read_exactly(fd, segment.offset, segment.count)
    if source.is_closed:
        source.check_kept(os.fstat(fd))
    return data


def _is_named(directory_fd: int, name: str, stamp: Stamp) -> bool:
    """Whether a name still belongs to the file that was opened by it."""
    try:
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_ino, status.st_dev) == (stamp.inode, stamp.device)
