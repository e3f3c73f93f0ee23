"""Counts of several servers, in virtual time: what they admit together, and a store that fails."""

from __future__ import annotations

import os
import random
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.access.exchange import SETTLE_S, AwayError, Exchange
from zerocopy.access.limits import Limits, NameUsage
from zerocopy.access.shared_counts import (
    ADDRESSES,
    BYTES,
    SharedCounts,
    add_rows,
    make_counts,
    meter_of,
)
from zerocopy.core import counters as slots
from zerocopy.core.access import Allowance, Grant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUOTA = 10
DAY_S = 86_400
BEGIN_S = 20_000 * DAY_S + 100.0


class Sums:
    """A store in memory; it can be away, lose what was sent, or lose everything."""

    def __init__(self) -> None:
        self.sums = Counter[str]()
        self.is_away = False
        self.swallows = False
        self.added: list[Sequence[tuple[str, int, int]]] = []
        self.checks = 0

    def add(self, amounts: Sequence[tuple[str, int, int]]) -> list[int]:
        """See `Store`."""
        if self.swallows:
            self.swallows, self.is_away = False, True
            self._add(amounts)
        if self.is_away:
            raise AwayError("away")
        return self._add(amounts)

    def _add(self, amounts: Sequence[tuple[str, int, int]]) -> list[int]:
        self.added.append(amounts)
        for key, _, amount in amounts:
            self.sums[key] += amount
        return [self.sums[key] for key, _, _ in amounts]

    def check(self) -> None:
        """See `Store`."""
        self.checks += 1
        if self.is_away:
            raise AwayError("away")


class Server:
    """A server of two workers, with its exchange."""

    def __init__(self, world: World) -> None:
        self.fd = make_counts()
        add_rows(self.fd, 3)
        self.exchange = Exchange(
            self.fd, world.store, clock=lambda: world.now_s, monotonic_ns=lambda: world.beats
        )
        self.usages: list[NameUsage] = []
        for row in (1, 2):
            limits = Limits(
                SharedCounts(self.fd, row, asks_world=True),
                array("Q", bytes(8 * len(slots.SLOTS))),
                clock=lambda: world.now_s,
            )
            allowance = Allowance(requests_per_s=QUOTA, bytes_per_day=1_000)
            usage = limits.usage_of(Grant("desk", allowance=allowance))
            assert usage is not None
            self.usages.append(usage)

    def admit(self, now_s: float, worker: int = 0, times: int = 1) -> int:
        """How many of so many requests, one after another, a worker admits."""
        return sum(self.usages[worker].admits(0, 1, now_s) for _ in range(times))

    def bytes_left(self) -> int:
        """What is left of today."""
        limits = self.usages[0]._limits
        return 1_000 - limits.counts.total(meter_of(BYTES, "desk"), int(BEGIN_S // DAY_S))


class World:
    """Servers, a store and the clock of all."""

    def __init__(self, servers: int = 2) -> None:
        self.now_s = BEGIN_S
        self.beats = 1
        self.store = Sums()
        self.servers = [Server(self) for _ in range(servers)]

    def exchange(self) -> None:
        """Every server does a step, twice: the first to step learns of the last."""
        for server in 2 * self.servers:
            server.exchange.step()

    def close(self) -> None:
        """Give the memory back."""
        for server in self.servers:
            os.close(server.fd)


@pytest.fixture
def world() -> Iterator[World]:
    """Two servers."""
    made = World()
    yield made
    made.close()


def test_what_one_server_counts_the_other_knows_an_exchange_later(world: World) -> None:
    """Requests, from whichever worker; and a server does not count its own twice."""
    one, two = world.servers
    assert one.admit(world.now_s, worker=0, times=2) == 2
    assert one.admit(world.now_s, worker=1, times=3) == 3
    assert two.admit(world.now_s) == 1
    world.exchange()
    assert two.admit(world.now_s, times=QUOTA) == QUOTA - 6
    world.exchange()
    assert one.admit(world.now_s) == 0
    world.now_s += 1
    assert one.admit(world.now_s, times=QUOTA + 1) == QUOTA


def test_bytes_of_a_day_are_those_of_all_servers(world: World) -> None:
    """What is given back, too."""
    one, two = world.servers
    day = one.usages[1].spend(700)
    two.usages[0].spend(50)
    world.exchange()
    assert two.bytes_left() == 250
    one.usages[1].give_back(600, day)
    two.usages[0].spend(50)
    world.exchange()
    assert two.bytes_left() == one.bytes_left() == 800


@pytest.mark.parametrize("servers", [2, 3])
@pytest.mark.parametrize("at_s", [0.0, 0.5, 0.95])
def test_what_was_admitted_too_much_is_made_up_for(servers: int, at_s: float) -> None:
    """Each server gives a whole quota before it hears of the others; the next seconds give none."""
    world = World(servers)
    world.now_s += at_s
    begun_s, admitted = int(world.now_s), 0
    for _ in range(100):  # a tenth of a second each
        for server in world.servers:
            admitted += server.admit(world.now_s, times=QUOTA)
        world.exchange()
        seconds = int(world.now_s) - begun_s + 1
        assert admitted <= QUOTA * (seconds + 2 * (servers - 1))
        world.now_s += 0.1
    assert admitted >= QUOTA * (seconds - 2 * servers)
    world.close()


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_over_any_time_servers_admit_what_one_would(seed: int, servers: int) -> None:
    """Clients that come and go, exchanges in any order, each at most three tenths late."""
    world, chance = World(servers), random.Random(seed)
    begun_s, admitted = int(world.now_s), 0
    due_s = dict.fromkeys(world.servers, world.now_s)
    for _ in range(200):
        for server in chance.sample(world.servers, servers):
            if chance.random() < 0.5:
                times = chance.choice([1, 3, 2 * QUOTA])
                admitted += server.admit(world.now_s, chance.choice([0, 1]), times)
            if world.now_s >= due_s[server]:
                server.exchange.step()
                due_s[server] = world.now_s + chance.uniform(0.05, 0.3)
            seconds = int(world.now_s) - begun_s + 1
            assert admitted <= QUOTA * (seconds + 2 * (servers - 1))
        world.now_s += chance.uniform(0, 0.1)
    world.close()


def test_what_ends_a_second_and_begins_the_next_between_two_looks_is_seen() -> None:
    """Clients that ask just before the turn of a second, and just after, gain nothing by it."""
    world, admitted = World(3), 0
    begun_s = int(world.now_s)
    for even_s in range(begun_s, begun_s + 40, 2):
        for world.now_s in (even_s + 0.95, even_s + 1.01):
            admitted += sum(server.admit(world.now_s, times=QUOTA) for server in world.servers)
        for world.now_s in (even_s + 1.05, even_s + 1.5):
            world.exchange()
    assert admitted <= QUOTA * (40 + 2 * 2)
    world.close()


def test_a_store_that_is_away_is_told_and_nothing_is_sent_twice(world: World) -> None:
    """What was on its way may have come; what came meanwhile goes when the store is back."""
    one, two = world.servers
    one.usages[0].spend(100)
    world.store.swallows = True
    with pytest.raises(AwayError):
        one.exchange.step()
    one.usages[0].spend(30)
    for _ in range(3):
        with pytest.raises(AwayError):
            one.exchange.step()
    assert len(world.store.added) == 1
    assert one.bytes_left() == 870, "its own counts hold"
    world.store.is_away = False
    world.exchange()
    assert sum(world.store.sums.values()) == 130
    two.usages[0].spend(1)
    world.exchange()
    assert two.bytes_left() == 869


def test_a_store_that_has_lost_everything_is_told_again(world: World) -> None:
    """Each server adds what it had added before."""
    one, two = world.servers
    one.usages[0].spend(100)
    two.usages[0].spend(200)
    world.exchange()
    world.store.sums.clear()
    for server in world.servers:
        server.usages[0].spend(1)
    world.exchange()
    world.exchange()
    assert sum(world.store.sums.values()) == 302
    assert one.bytes_left() == two.bytes_left() == 698


def test_the_last_exchange_is_noted_only_if_it_came_about(world: World) -> None:
    """By it a worker knows whether the store is away."""
    server = world.servers[0]
    world.beats = 7
    server.exchange.step()
    assert server.usages[0]._limits.counts.asked_ns == 7
    world.beats, world.store.is_away = 9, True
    with pytest.raises(AwayError):
        server.exchange.step()
    assert server.usages[0]._limits.counts.asked_ns == 7


def test_a_clock_that_is_set_back_is_followed(world: World) -> None:
    """The servers agree again in the first second that all of them have."""
    one, two = world.servers
    one.admit(world.now_s, times=4)
    world.exchange()
    world.now_s -= 3_600
    assert one.admit(world.now_s, times=4) == 4
    world.exchange()
    two.admit(world.now_s)
    world.exchange()
    assert two.admit(world.now_s, times=QUOTA) == QUOTA - 5


def test_an_idle_server_asks_only_whether_the_store_is_there(world: World) -> None:
    """Names that nobody used are neither sent nor kept."""
    server = world.servers[0]
    server.admit(world.now_s, times=3)
    server.exchange.step()
    assert len(world.store.added) == 1
    world.now_s += 2 + SETTLE_S
    for _ in range(3):
        assert server.exchange.step() == 0
    assert len(world.store.added) == 1
    assert server.exchange._names == {}


def test_names_that_came_once_are_forgotten_however_many_they_are(world: World) -> None:
    """An IPv6 client has addresses without end, and each is a name for some seconds."""
    server = world.servers[0]
    counts = SharedCounts(server.fd, 1, asks_world=True)
    for step in range(100):
        for number in range(100):
            counts.add(meter_of(ADDRESSES, f"{step}.{number}"), int(world.now_s), 1, QUOTA)
        server.exchange.step()
        world.now_s += 0.1
    assert len(server.exchange._names) < 100 * 100 / 2


def test_the_store_learns_no_name(world: World) -> None:
    """A key says which table, which window, and a hash."""
    world.servers[0].usages[0].spend(100)
    world.exchange()
    [key] = world.store.sums
    assert key == f"bytes:{meter_of(BYTES, 'desk').tag:016x}:20000"
