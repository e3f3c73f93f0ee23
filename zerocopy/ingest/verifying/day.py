"""One day of a series: lengths of its columns, order of its times, NaN.

Owns the rules within a day, and which breaches can be mended without loss. A day that is still
being written may be uneven and end amid a record at any instant; that is no fault of it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zerocopy.core.layout import DAY_S, TIME_COLUMN, day_label, file_name
from zerocopy.ingest.recording.appending import MULTIPLES_FROM_RECORDS, PIECE_RECORDS
from zerocopy.ingest.verifying.finding import Finding, found
from zerocopy.ingest.verifying.scan import TimeScan, count_nan, scan_times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.core.layout import Dtypes
    from zerocopy.ingest.verifying.walk import File

SETTLE_S = 600
"""Seconds after its end for which a day that changes is being written: as `[data] settle_s`."""


class Place(NamedTuple):
    """Where a store is, and by which rules and clock it is judged."""

    root: str
    dtypes: Dtypes
    now_s: float


class Lengths(NamedTuple):
    """Records of each column, and bytes behind the last whole one.

    `is_cuttable` tells whether what lies behind the times may be cut off: no query gives it.
    """

    records: dict[str, int]
    torn: dict[str, int]
    widths: dict[str, float]
    is_cuttable: bool

    @property
    def aligned(self) -> int:
        """Records that every column has."""
        return min(self.records.values())

    @property
    def is_even(self) -> bool:
        """Whether all columns have the same, and nothing more."""
        return len(set(self.records.values())) == 1 and not any(self.torn.values())


class DayReport(NamedTuple):
    """What was found of a day; `nans` are NaN and records of each column that was looked at."""

    findings: list[Finding]
    nans: dict[str, tuple[int, int]]
    nbytes: int


def is_open(day: int, changed_s: float, now_s: float) -> bool:
    """Whether a day is being written: it is today's, or just over, and has changed lately."""
    return now_s < (day + 1) * DAY_S + SETTLE_S and now_s < changed_s + SETTLE_S


def lengths_of(files: Mapping[str, int], dtypes: Dtypes) -> Lengths:
    """Of the sizes in bytes of a day's files, `time` among them."""
    records, torn = {}, {}
    for column, size in files.items():
        records[column], torn[column] = divmod(size, dtypes.of(column).nbytes)
    complete = records[TIME_COLUMN]
    widths = {}
    if complete >= MULTIPLES_FROM_RECORDS:
        for column, size in files.items():
            width = size / complete
            if width != dtypes.of(column).nbytes and width in {1, 2, 4, 8, 16, 32}:
                widths[column] = width
    return Lengths(
        records,
        torn,
        widths,
        is_cuttable=not widths
        and min(records.values()) == complete
        and max(records.values()) <= complete + PIECE_RECORDS,
    )


def examine(place: Place, series: str, day: int, files: Mapping[str, File]) -> DayReport:
    """Look at every rule within a day; reads `time` and the floats."""
    root, dtypes, now_s = place
    path = os.path.join(series, file_name(TIME_COLUMN, day))
    label = day_label(day)
    is_being_written = is_open(day, max(file.changed_s for file in files.values()), now_s)
    if TIME_COLUMN not in files:
        if is_being_written:
            return DayReport([], {}, 0)  # its files are just being made
        lacks = found(
            os.path.join(series, file_name(min(files), day)),
            "missing-time",
            f"{label} has no times, so every query skips it",
            day=label,
            columns=sorted(files),
        )
        return DayReport([lacks], {}, 0)
    lengths = lengths_of({column: file.size for column, file in files.items()}, dtypes)
    findings = [] if is_being_written else _of_lengths(series, day, lengths)
    nans: dict[str, tuple[int, int]] = {}
    nbytes = sum(file.size for file in files.values())
    for column in sorted(files):
        name = file_name(column, day)
        dtype = np.dtype(dtypes.of(column).name)
        if column != TIME_COLUMN and (dtype.kind != "f" or column in lengths.widths):
            continue
        try:
            fd = os.open(
                os.path.join(root, series, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            continue  # replaced or removed just now
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            findings.append(found(os.path.join(series, name), "unreadable", reason, day=label))
            continue
        try:
            if column == TIME_COLUMN:
                start_s = day * DAY_S
                scan = scan_times(fd, lengths.records[column], start_s, start_s + DAY_S)
                findings += _of_times(path, day, scan, lengths, now_s)
            else:
                nans[column] = count_nan(fd, lengths.aligned, dtype), lengths.aligned
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            findings.append(found(os.path.join(series, name), "unreadable", reason, day=label))
        finally:
            os.close(fd)
    return DayReport(findings, nans, nbytes)


def _of_lengths(series: str, day: int, lengths: Lengths) -> list[Finding]:
    label, findings = day_label(day), []
    mends = lengths.is_cuttable
    for column, width in lengths.widths.items():
        path = os.path.join(series, file_name(column, day))
        findings.append(
            found(
                path,
                "width",
                f"has {width:g} bytes for each time: is its dtype another in [columns]?",
                day=label,
                column=column,
                bytes_a_record=width,
            )
        )
    for column, rest in lengths.torn.items():
        if rest and column not in lengths.widths:
            path = os.path.join(series, file_name(column, day))
            findings.append(
                found(
                    path,
                    "torn",
                    f"ends with {rest} bytes of a record",
                    mends=mends,
                    day=label,
                    column=column,
                    bytes=rest,
                )
            )
    records = {c: n for c, n in lengths.records.items() if c not in lengths.widths}
    if len(set(records.values())) > 1:
        told = ", ".join(f"{column} {count:,}" for column, count in sorted(records.items()))
        findings.append(
            found(
                os.path.join(series, file_name(TIME_COLUMN, day)),
                "uneven",
                f"the columns of {label} have different numbers of records: {told}",
                mends=mends,
                day=label,
                records=records,
            )
        )
    return findings


def _of_times(path: str, day: int, scan: TimeScan, lengths: Lengths, now_s: float) -> list[Finding]:
    label, findings = day_label(day), []
    mends = (lengths.is_even or lengths.is_cuttable) and not scan.far
    if scan.descents:
        findings.append(
            found(
                path,
                "unsorted",
                f"{scan.descents:,} times are earlier than the one before, "
                f"first at record {scan.descent:,}",
                mends=mends,
                day=label,
                count=scan.descents,
                record=scan.descent,
            )
        )
    outside = scan.before + scan.after
    if outside:
        parts = {"before": scan.before, "after": scan.after}
        told = " and ".join(f"{count:,} {word}" for word, count in parts.items() if count)
        far = f"; {scan.far:,} are more than a day away" if scan.far else ""
        findings.append(
            found(
                path,
                "outside",
                f"of {scan.records:,} records, {told} this day{far}",
                mends=mends,
                day=label,
                before=scan.before,
                after=scan.after,
                far=scan.far,
            )
        )
    today = int(now_s) // DAY_S
    if day <= today and scan.newest_s >= (today + 1) * DAY_S:
        newest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(scan.newest_s))
        findings.append(
            found(
                path,
                "future",
                f"its newest record is of the future: {newest} UTC",
                day=label,
                newest=scan.newest_s,
            )
        )
    return findings
