"""From an append to those who listen: latency, and what ten thousand listeners cost.

Owns the listeners, which are sockets in one epoll(7): the kernel takes what comes, its arrival is
an edge, and only a few of them are read and understood. A Python reader would be what is measured.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench.awake import awake
from bench.clients import ClientError
from bench.live_ways import PEERS, peer_way, zerocopy_way
from bench.meter import Meter, memory_of
from bench.peers import missing, pinned
from bench.rounds import progress
from bench.section import Table, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.live_ways import Way
    from bench.rounds import Options
    from bench.servers import Servers

READERS = (1, 100, 1_000)
APPENDS_A_SECOND = (100, 1_000)
CROWD = 10_000
SMOKE_CROWD = 50
SAMPLES = 5
"""Listeners whose messages are read, evenly among all."""

CROWD_APPENDS = 10
PATIENCE_S = 10.0
DROP_BYTES = 1 << 20
_SPARE_BUFFER = memoryview(bytearray(DROP_BYTES))


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds from each append to each sample; of the time, what the server used of its core.

    `waited_share` is what server and listeners, each on a core, waited for it.
    """

    latencies_s: list[float]
    server_share: float
    waited_share: float


class Listeners(ExitStack):
    """Sockets that listen; leaving it closes them."""

    def __init__(self, way: Way, count: int) -> None:
        super().__init__()
        self._way = way
        self._epoll = self.enter_context(select.epoll())
        self._by_fd: dict[int, socket.socket] = {}
        self.sampled: dict[int, int] = {}
        """The number of messages seen, by descriptor of a sample."""
        step = max(1, count // SAMPLES)
        try:
            for index in range(count):
                sock = self.enter_context(self._connect())
                self._by_fd[sock.fileno()] = sock
                if index % step == step // 2:
                    self.sampled[sock.fileno()] = way.published
                if index % 100 == 99:  # the server accepts in between
                    self._welcome(index - 99)
            self._welcome(count - count % 100)
        except BaseException:
            self.close()
            raise
        for fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLET | select.EPOLLRDHUP)
        self._epoll.poll(0, len(self._by_fd))  # what was there before

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._way.port))
        sock.settimeout(PATIENCE_S)
        sock.sendall(self._way.hello)
        return sock

    def _welcome(self, first: int) -> None:
        """Wait until those from `first` on miss nothing any more."""
        for sock in list(self._by_fd.values())[first:]:
            got = b""
            while not self._way.welcome.search(got):
                data = sock.recv(65_536)
                if not data:
                    raise ClientError(f"{self._way.name} ended a listener: {got[:200]!r}")
                got += data
            sock.setblocking(False)

    def wait(self, timeout_s: float) -> tuple[int, float, list[int]]:
        """Wait for arrivals.

        Returns how many sockets have something new, when that was seen, and those of them that are
        samples. What the others have is dropped in the kernel (MSG_TRUNC, tcp(7)).
        """
        arrived = self._epoll.poll(timeout_s, len(self._by_fd))
        now_s = time.perf_counter()
        samples = []
        for fd, _ in arrived:
            if fd in self.sampled:
                samples.append(fd)
            else:
                self._by_fd[fd].recv_into(_SPARE_BUFFER, DROP_BYTES, socket.MSG_TRUNC)
        return len(arrived), now_s, samples

    def read(self, fd: int) -> range:
        """The numbers of the messages that a sample has got."""
        found = self._way.number.findall(self._by_fd[fd].recv(DROP_BYTES))
        before = self.sampled[fd]
        if found:
            self.sampled[fd] = int(found[-1])
        return range(before, self.sampled[fd])


def measure_live(options: Options, servers: Servers) -> Iterator[Table]:
    """Two tables: latencies by readers and pace, and a crowd."""
    latencies = Table(
        title="Live: from an append to those who listen",
        client=(
            "server-sent events over plain HTTP/1.1; listeners are sockets in one epoll, of which "
            f"{SAMPLES} are read; a message is one record, or a number; servers in turn in each "
            "round. A process of SCHED_IDLE keeps each core awake. Where server and "
            "listeners waited for their cores, others used these"
        ),
        head=(
            *("server", "listeners", "appends a second", "p50 ms", "p99 ms"),
            *("share of its core", "waited for cores"),
        ),
    )
    crowd_size = SMOKE_CROWD if options.smoke else CROWD
    crowd = Table(
        title=f"Live: {crowd_size:,} listeners on one worker",
        client=f"as above; {CROWD_APPENDS} appends, one at a time",
        head=("server", "KB of the server each", "ms until the last has it, median (range)"),
    )
    with ExitStack() as stack:
        stack.enter_context(awake(servers.server_core, servers.client_core))
        running = []
        for name, way in _ways(servers, latencies):
            with pinned(servers.server_core):
                running.append(stack.enter_context(way))
            progress(f"live: {name}, {crowd_size} listeners")
            crowd.rows.append((name, *_crowd(running[-1], crowd_size)))
            with Listeners(running[-1], 1) as listeners:  # not counted: the crowd is still leaving
                _take(running[-1], listeners, APPENDS_A_SECOND[0], options.seconds, servers)
        for count in (1, 10) if options.smoke else READERS:
            with ExitStack() as listening:
                pairs = [(way, listening.enter_context(Listeners(way, count))) for way in running]
                for pace in APPENDS_A_SECOND:
                    progress(f"live: {count} listeners, {pace} appends a second")
                    for name, told in _rounds(pairs, pace, options, servers).items():
                        latencies.rows.append((name, f"{count:,}", f"{pace:,}", *told))
    yield latencies
    yield crowd


def _ways(servers: Servers, table: Table) -> Iterator[tuple[str, AbstractContextManager[Way]]]:
    """zerocopy, and the peers that are here."""
    folder = os.path.join(servers.directory, "live")
    yield "zerocopy", zerocopy_way(os.path.join(folder, "data"))
    for kind in PEERS:
        reason = missing(kind.name)
        if reason is not None:
            table.notes.append(f"{kind.name} skipped: {reason}")
        else:
            yield kind.name, peer_way(kind, os.path.join(folder, kind.name))


def _rounds(
    pairs: Sequence[tuple[Way, Listeners]], pace: int, options: Options, servers: Servers
) -> dict[str, tuple[str, ...]]:
    """The rows of one pace, by server. Who falls behind is left out of the rounds that follow."""
    taken: dict[str, list[Taken]] = {way.name: [] for way, _ in pairs}
    told: dict[str, tuple[str, ...]] = {}
    for _ in range(options.rounds):
        for way, listeners in pairs:
            if way.name in told:
                continue
            one = _take(way, listeners, pace, options.seconds, servers)
            if one is None:
                told[way.name] = "falls behind", "-", "-", "-"
            else:
                taken[way.name].append(one)
    return {name: told.get(name) or _told(found) for name, found in taken.items()}


def _take(
    way: Way, listeners: Listeners, pace: int, seconds: float, servers: Servers
) -> Taken | None:
    """Publish at an even pace, and see when each message comes to each sample.

    None: some have not come `PATIENCE_S` after the last was published.
    """
    first = way.published
    published_s: list[float] = []
    latencies_s: list[float] = []
    count = max(1, round(pace * seconds))
    expected = count * len(listeners.sampled)
    meter = Meter(way.pids, servers.cores)
    begun_s = time.perf_counter()
    end_s = begun_s + seconds + PATIENCE_S
    while len(latencies_s) < expected:
        now_s = time.perf_counter()
        if now_s > end_s:
            return None
        due_s = begun_s + len(published_s) / pace
        if len(published_s) < count and now_s >= due_s:
            published_s.append(now_s)
            way.publish()
            continue
        wait_s = max(0.0, due_s - now_s) if len(published_s) < count else 0.1
        _, seen_s, samples = listeners.wait(wait_s)
        for fd in samples:
            latencies_s += [
                seen_s - published_s[number - first]
                for number in listeners.read(fd)
                if number >= first  # earlier ones may come late
            ]
    read = meter.read()
    return Taken(latencies_s, read.cpu_s / read.wall_s, read.waited_s / (2 * read.wall_s))


def _told(taken: list[Taken]) -> tuple[str, ...]:
    """Percentiles of each round, their medians and ranges; and the shares of the cores."""
    cuts = [quantiles(one.latencies_s, n=100, method="inclusive") for one in taken]
    p50, p99 = ([cut[index] * 1e3 for cut in cuts] for index in (49, 98))
    shares = (
        median(share)
        for share in zip(*((one.server_share, one.waited_share) for one in taken), strict=True)
    )
    return spread(p50, 2), spread(p99, 2), *(f"{share:.0%}" for share in shares)


def _crowd(way: Way, count: int) -> tuple[str, str]:
    """What each listener costs the server, and how long one message takes to all."""
    before = memory_of(way.pids).own
    took_ms = []
    with Listeners(way, count) as listeners:
        after = memory_of(way.pids).own
        for _ in range(CROWD_APPENDS):
            left = count
            begun_s = seen_s = time.perf_counter()
            way.publish()
            while left > 0:
                arrived, seen_s, samples = listeners.wait(PATIENCE_S)
                if not arrived:
                    raise ClientError(f"{way.name}: {left} of {count} listeners got nothing")
                left -= arrived
                for fd in samples:
                    listeners.read(fd)
            took_ms.append((seen_s - begun_s) * 1e3)
    each = "-" if before is None or after is None else f"{(after - before) / count / 1e3:.1f}"
    return each, spread(took_ms)
