"""Live streams of a worker: who may have one, which tail it reads, and who is told of changes.

Owns the bounds, the tails by series and columns, and the watches of their directories. A change is
told by inotify(7), in the event loop; where nobody tells, and once a second to be sure, threads
look. Used in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import OverloadError
from zerocopy.core.plan import LIVE_FILES, LIVE_THREADS, Column
from zerocopy.service.live.directory import Directory
from zerocopy.service.live.feed import LiveFeed
from zerocopy.service.live.jobs import Jobs
from zerocopy.service.live.messages import COLUMNS, EVENTS, Composer, is_prepared, prepare
from zerocopy.service.live.past import Past
from zerocopy.service.live.shared import Shared
from zerocopy.service.live.tail import Tail
from zerocopy.storage.live.following import Followed, Follower
from zerocopy.storage.live.watching import Watch, Watcher
from zerocopy.storage.tree import Series
from zerocopy.storage.watch.inotify import IN_IGNORED, IN_Q_OVERFLOW, IN_UNMOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from zerocopy.core.counters import Counters
    from zerocopy.core.cursor import Cursor
    from zerocopy.core.layout import Dtypes
    from zerocopy.core.query import LiveQuery
    from zerocopy.service.live.reader import Reader
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.live.follower import DayFollower

WAKE_MAX = 64
"""Readers that are told of a change before other connections have a turn: some 30 µs."""

HINTED_S, HINTED_AFAR_S = 0.1, 1.0
"""Seconds between two looks at a series that hints ask for: where a look asks the file system, and
where it asks more than that. So forged ones cost what polling does, or a listing a second."""

_NS = 1_000_000_000


class Live:
    """The live streams of one data root, or of what `follower` follows: that is not watched.

    At most `threads_max` threads work for them. `on_refused` gets a sentence for the operator,
    `on_failed` the error that ended a stream.
    """

    def __init__(
        self,
        *,
        root: str,
        files: OpenFiles,
        dtypes: Dtypes,
        executor: Executor,
        counters: Counters,
        subscribers_max: int,
        series_max: int,
        message_bytes_max: int,
        read_bytes_max: int,
        heartbeat_s: float,
        poll_ms: int,
        on_refused: Callable[[str], object],
        on_failed: Callable[[Exception], object],
        clock_ns: Callable[[], int] = time.monotonic_ns,
        follower: DayFollower | None = None,
        threads_max: int = LIVE_THREADS,
    ) -> None:
        self.counters = counters
        self.clock_ns = clock_ns
        self._on_failed = on_failed
        self._root = root
        self._files = files
        self._dtypes = dtypes
        self._subscribers = 0
        self._subscribers_max = subscribers_max
        self._series_max = series_max
        self._message_bytes_max = message_bytes_max
        self._read_bytes_max = read_bytes_max
        self.heartbeat_ns = round(heartbeat_s * _NS)
        self._poll_s = poll_ms / 1_000
        self._hint_ns = round((HINTED_S if follower is None else HINTED_AFAR_S) * _NS)
        self._on_refused = on_refused
        self._jobs = Jobs(executor, threads_max)
        self._is_watching = follower is None
        self._follower = follower or Follower(root, files, dtypes)
        self._shared = Shared(
            self._follower,
            self._jobs,
            counters,
            clock_ns,
            self._wake,
            lambda call: asyncio.get_running_loop().call_soon(call),
            Past(),
        )
        self._watcher: Watcher | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._tails: dict[Followed, Tail] = {}
        self._opening: dict[Followed, asyncio.Future[Exception | None]] = {}
        self._directories: dict[Series, Directory] = {}
        self._watched: dict[int, Directory] = {}
        self._woken: deque[Reader] = deque()
        self._is_waking = False

    # ---- subscribers

    async def subscribe(self, query: LiveQuery, *, is_websocket: bool) -> LiveFeed:
        """A stream that is to be closed.

        Raises:
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            DataError: a directory or a file cannot be read.
            OverloadError: there are too many streams or series.
        """
        if self._subscribers >= self._subscribers_max:
            raise OverloadError("too many live streams; try again")
        self._subscribers += 1
        try:
            series = Series(query.exchange, query.symbol, query.type)
            tail = await self._tail(Followed(series, query.columns))
            tail.readers += 1  # at once: a tail that nobody reads is given up, see `tend`
            try:
                if not is_websocket and not is_prepared():
                    await self._jobs.run(prepare)
                cursor = await self._begin(tail, query)
            except BaseException:
                tail.readers -= 1
                raise
        except BaseException:
            self._subscribers -= 1
            raise
        self.counters[slots.LIVE_SUBSCRIBERS] += 1
        gap_ns = 0 if query.max_rate is None else round(_NS / query.max_rate)
        return LiveFeed(self, tail, COLUMNS if is_websocket else EVENTS, cursor, gap_ns)

    def note_left(self, tail: Tail) -> None:
        """A subscriber has left; see `Hub`."""
        self._subscribers -= 1
        self.counters[slots.LIVE_SUBSCRIBERS] -= 1
        tail.readers -= 1

    def note_failed(self, error: Exception) -> None:
        """A stream ends because of this; see `Hub`."""
        self._on_failed(error)

    def call_later(self, delay_s: float, call: Callable[[], object]) -> object:
        """Call once, after some seconds; see `Hub`."""
        return asyncio.get_running_loop().call_later(delay_s, call)

    def tend(self) -> None:
        """Called about once a second: signs of life, looks to be sure, and what nobody reads."""
        now_ns = self.clock_ns()
        for followed, tail in [*self._tails.items()]:
            if not tail.readers:
                self._drop(followed, tail)
            elif now_ns - tail.quiet_ns >= self.heartbeat_ns:
                tail.beat()
        for series, directory in self._directories.items():
            if directory.is_told:
                for tail in directory.tails:
                    tail.poll()
            self._check(series, directory)

    async def _begin(self, tail: Tail, query: LiveQuery) -> Cursor:
        if query.cursor is not None:
            reach = self._follower.reaching(tail.followed, query.cursor)
            if reach is not None and query.cursor.position:
                await self._jobs.run(reach)
            return query.cursor
        if query.start_s is not None:
            return await self._jobs.run(
                partial(self._follower.first_at, tail.followed, query.start_s)
            )
        now = tail.now()
        if now is not None:
            return now
        return await self._jobs.run(partial(self._follower.newest, tail.followed))

    # ---- tails

    async def _tail(self, followed: Followed) -> Tail:
        while (tail := self._tails.get(followed)) is None:
            # Others may wait for it too when this request is cancelled.
            found = await asyncio.shield(self._opening.get(followed) or self._open(followed))
            if found is not None:
                raise found
        return tail

    def _open(self, followed: Followed) -> asyncio.Future[Exception | None]:
        """Begin to follow; a thread looks whether there is such a series, and watches it."""
        for known, tail in [*self._tails.items()]:
            if not tail.readers and len(self._tails) >= self._series_max:
                self._drop(known, tail)
        several = [*self._tails, *self._opening, followed]
        files = sum(1 + len(each.columns) for each in several)
        if len(several) > self._series_max or files > self._series_max * LIVE_FILES:
            raise OverloadError("too many series have live streams; try again")
        watcher = self._watcher or self._start_watching()
        is_watched = followed.series in self._directories
        opening: asyncio.Future[Exception | None]
        opening = asyncio.get_running_loop().create_future()
        self._opening[followed] = opening

        def work() -> Watch | None:
            self._follower.check(followed)
            if is_watched or watcher is None:
                return None
            return watcher.watch(followed.series)

        self._jobs.submit(work, partial(self._on_opened, followed), urgent=True)
        return opening

    def _on_opened(self, followed: Followed, watch: Watch | Exception | None) -> None:
        opening = self._opening.pop(followed)
        if isinstance(watch, Exception):
            opening.set_result(watch)
            return
        directory = self._directories.get(followed.series)
        if directory is None:
            # None: it is not watched, or the last that read it has left meanwhile: it is polled.
            path = self._follower.directory(followed.series)
            directory = Directory(watch or Watch(path, (0, 0), None, is_local=False))
            self._directories[followed.series] = directory
            self._note_watch(directory, directory.watch)
        elif watch is not None and watch.number is not None:
            self._note_watch(directory, watch)  # another thread was told that it is watched
        columns = tuple(Column(name, self._dtypes.of(name)) for name in followed.columns)
        composer = Composer(
            columns,
            self._files,
            message_bytes_max=self._message_bytes_max,
            read_bytes_max=self._read_bytes_max,
        )
        tail = Tail(followed, composer, self._shared)
        tail.is_inline = directory.is_told
        self._tails[followed] = tail
        directory.tails.append(tail)
        self.counters[slots.LIVE_SERIES] = len(self._tails)
        opening.set_result(None)

    def _drop(self, followed: Followed, tail: Tail) -> None:
        del self._tails[followed]
        directory = self._directories[followed.series]
        directory.tails.remove(tail)
        if not directory.tails:
            del self._directories[followed.series]
            self._unwatch(directory)
        tail.close()
        self.counters[slots.LIVE_SERIES] = len(self._tails)

    # ---- changes

    def _start_watching(self) -> Watcher | None:
        if not self._is_watching:
            return None
        watcher = self._watcher = Watcher(self._root, self._on_refused)
        fd = watcher.fileno()
        if fd is not None:
            asyncio.get_running_loop().add_reader(fd, self._on_events)
        return watcher

    def _on_events(self) -> None:
        """Tell the tails which names have changed."""
        assert self._watcher is not None, "it is readable"
        changed: defaultdict[int, dict[bytes, int]] = defaultdict(dict)
        for watch, mask, name in self._watcher.events():
            if mask & IN_Q_OVERFLOW:
                for tail in self._tails.values():
                    tail.on_anything()
            elif mask & (IN_IGNORED | IN_UNMOUNT):
                directory = self._watched.pop(watch, None)
                if directory is not None:
                    self._note_watch(directory, directory.watch._replace(number=None))
            elif name:
                names = changed[watch]
                names[name] = names.get(name, 0) | mask
        for watch, names in changed.items():
            directory = self._watched.get(watch)
            for tail in [] if directory is None else directory.tails:
                tail.on_names(names)

    def _note_watch(self, directory: Directory, watch: Watch) -> None:
        directory.watch = watch
        if watch.number is not None:
            self._watched[watch.number] = directory
        for tail in directory.tails:
            tail.is_inline = directory.is_told
            tail.on_anything()
        if not directory.is_told:
            self._poll_later()

    def _unwatch(self, directory: Directory) -> None:
        number = directory.watch.number
        if number in self._watched and self._watcher is not None:
            del self._watched[number]
            self._watcher.unwatch(directory.watch)

    def _poll_later(self) -> None:
        if self._poll_timer is None:
            loop = asyncio.get_running_loop()
            self._poll_timer = loop.call_later(self._poll_s, self._poll)

    def _poll(self) -> None:
        """Look at what nobody tells of."""
        self._poll_timer = None
        polled = [each for each in self._directories.values() if not each.is_told]
        for directory in polled:
            for tail in directory.tails:
                tail.poll()
        if polled:
            self._poll_later()

    def is_followed(self, series: Series) -> bool:
        """Whether somebody reads it; any thread may ask."""
        return series in self._directories

    def hint(self, series: Series) -> None:
        """Somebody says that a series has changed: look, but not more often than is bearable."""
        directory = self._directories.get(series)
        if directory is None or directory.is_told or directory.is_hinted:
            return
        directory.is_hinted = True
        left_ns = directory.hinted_ns + self._hint_ns - self.clock_ns()
        self.call_later(max(0, left_ns) / _NS, partial(self._look_at_hinted, series, directory))

    def _look_at_hinted(self, series: Series, directory: Directory) -> None:
        directory.is_hinted, directory.hinted_ns = False, self.clock_ns()
        if self._directories.get(series) is directory:
            self._follower.expect(series)
            for tail in directory.tails:
                self.counters[slots.LIVE_HINTED] += 1
                tail.poll(is_hinted=True)

    def _check(self, series: Series, directory: Directory) -> None:
        """Watch a directory anew that was replaced, or could not be watched."""
        watcher, watch = self._watcher, directory.watch
        if directory.is_checked or watcher is None:
            return
        directory.is_checked = True

        def work() -> Watch:
            # One that is watched already, and has not moved, would not get a second watch.
            return watch if watch.number is not None and watch.is_there() else watcher.watch(series)

        def on_checked(found: Watch | Exception) -> None:
            directory.is_checked = False
            if isinstance(found, Exception) or found == directory.watch:
                return  # it is gone, or all is as it was
            if self._directories.get(series) is not directory:
                if found.number is not None:
                    watcher.unwatch(found)
                return
            self._unwatch(directory)
            self._note_watch(directory, found)

        self._jobs.submit(work, on_checked, urgent=False)

    # ---- waking

    def _wake(self, readers: Iterable[Reader]) -> None:
        """Tell readers, some at a time: other connections have their turns in between."""
        self._woken.extend(readers)
        if not self._is_waking:
            self._wake_some()

    def _wake_some(self) -> None:
        self._is_waking = True
        woken = self._woken
        try:
            for _ in range(min(len(woken), WAKE_MAX)):
                woken.popleft().wake()
        finally:
            if woken:
                asyncio.get_running_loop().call_soon(self._wake_some)
            else:
                self._is_waking = False
