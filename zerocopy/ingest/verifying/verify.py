"""The whole of a data root, series by series, days in threads.

Owns the order of things and what is handed to threads. Findings come in the order of the tree.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from zerocopy.ingest.verifying.day import examine
from zerocopy.ingest.verifying.finding import Finding, found
from zerocopy.ingest.verifying.series import NanCounts, across_days
from zerocopy.ingest.verifying.walk import list_days, list_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from zerocopy.ingest.verifying.day import DayReport, Place
    from zerocopy.ingest.verifying.walk import Days

WAITING_DAYS_MAX = 8
"""Days given to each thread ahead: their reports wait to be told in order."""


class Verifier:
    """Looks at a store; used in a with statement, in which its threads run.

    `on_bytes` is told the bytes of each day that is done.
    """

    def __init__(self, place: Place, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self._place = place
        self._on_bytes = on_bytes
        self._threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, "verify")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def names(self) -> tuple[list[tuple[str, str, str]], list[Finding]]:
        """Every series, and what is wrong with the names down to them.

        Raises:
            OSError: the root cannot be read.
        """
        series: list[tuple[str, str, str]] = []
        findings: list[Finding] = []
        for each in list_series(self._place.root):
            if isinstance(each, Finding):
                findings.append(each)
            else:
                series.append(each)
        return series, findings

    def series(self, names: tuple[str, str, str]) -> Iterator[Finding]:
        """What is wrong with a series."""
        path = os.path.join(*names)
        try:
            days, findings = list_days(self._place.root, path)
        except OSError as error:
            yield found(path, "unreadable", f"cannot be read: {error.strerror}")
            return
        yield from findings
        nans = NanCounts()
        for report in self._reports(path, days):
            yield from report.findings
            nans.add(report.nans)
            self._on_bytes(report.nbytes)
        yield from nans.findings(path)
        yield from across_days(path, days, self._place.now_s)

    def _reports(self, path: str, days: Days) -> Iterator[DayReport]:
        """Reports of days, in their order, computed ahead."""
        waiting: deque[Future[DayReport]] = deque()
        for day in sorted(days):
            waiting.append(self._pool.submit(examine, self._place, path, day, days[day]))
            if len(waiting) > WAITING_DAYS_MAX * self._threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
