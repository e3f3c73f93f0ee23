"""Limits by a clock that the test sets: windows, refusals and what they say."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

import pytest

from zerocopy.access.limits import AWAY_AFTER_NS, DAY_S, STREAMS_RETRY_S, Limits, NameUsage
from zerocopy.access.shared_counts import (
    REQUESTS,
    WORLD,
    SharedCounts,
    add_rows,
    make_counts,
    meter_of,
)
from zerocopy.core import counters as slots
from zerocopy.core.access import Allowance, Grant
from zerocopy.core.errors import LimitedError, OverloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIDNIGHT = 20_000 * DAY_S
NETWORK = bytes([192, 0, 2, 1])


class Machine:
    """Two workers of one server, and one clock."""

    def __init__(self, *, asks_world: bool = False, fails_closed: bool = False) -> None:
        self.now_s = MIDNIGHT + 1_000.25
        self.monotonic_ns = 5 * AWAY_AFTER_NS
        self.fd = make_counts()
        add_rows(self.fd, 3)
        self.counters = array("Q", bytes(8 * len(slots.SLOTS)))
        self.workers = [
            Limits(
                SharedCounts(self.fd, row, asks_world=asks_world),
                self.counters,
                per_address_max=3,
                fails_closed=fails_closed,
                clock=lambda: self.now_s,
                monotonic_ns=lambda: self.monotonic_ns,
            )
            for row in (1, 2)
        ]

    def usage(self, allowance: Allowance, worker: int = 0, name: str = "desk") -> NameUsage:
        """What counts for a name."""
        usage = self.workers[worker].usage_of(Grant(name, allowance=allowance))
        assert usage is not None
        return usage

    def limited(self, policy: str) -> int:
        """How many requests a policy has refused."""
        return self.counters[slots.LIMITED[policy]]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Without Redis."""
    made = Machine()
    yield made
    os.close(made.fd)


def test_nothing_is_counted_for_who_is_not_limited(machine: Machine) -> None:
    """So that its requests take the way that they took before there were limits."""
    grant = Grant("desk")
    assert machine.workers[0].usage_of(grant) is None
    assert grant.usage is None


def test_a_grant_has_one_usage(machine: Machine) -> None:
    """It knows where its counts lie."""
    grant = Grant("desk", allowance=Allowance(streams=1))
    assert machine.workers[0].usage_of(grant) is machine.workers[0].usage_of(grant) is grant.usage


def test_requests_of_both_workers_fill_one_window(machine: Machine) -> None:
    """The one that exceeds is refused, and counts as nothing; the next second begins anew."""
    one, two = (machine.usage(Allowance(requests_per_s=4), worker) for worker in (0, 1))
    for usage in (one, two, one, two):
        usage.check_request()
    for usage in (one, two):
        with pytest.raises(LimitedError) as caught:
            usage.check_request()
        assert caught.value.detail == (
            "this key or token may ask 4 times a second; try again in 1 s"
        )
        assert (caught.value.policy, caught.value.quota) == ("requests", 4)
        assert (caught.value.window_s, caught.value.retry_s) == (1, 1)
    assert machine.limited("requests") == 2
    machine.now_s += 0.75  # exactly the next second
    two.check_request()


def test_requests_that_are_answered_together_count_all_or_none(machine: Machine) -> None:
    """Else a batch of ten would pass where one is left; each of the ten then asks alone."""
    usage = machine.usage(Allowance(requests_per_s=4))
    assert not usage.admits(100, 5, machine.now_s)
    assert usage.admits(100, 3, machine.now_s)
    assert not usage.admits(100, 2, machine.now_s)
    usage.check_request()
    assert not usage.admits(100, 1, machine.now_s)
    assert machine.limited("requests") == 0, "who is refused here asks again"


def test_bytes_are_those_of_a_day_in_utc(machine: Machine) -> None:
    """Exactly what is left passes; a byte more does not, until midnight."""
    usage = machine.usage(Allowance(bytes_per_day=1_000))
    usage.check_bytes(1_000)
    day = usage.spend(600)
    usage.check_bytes(400)
    assert usage.admits(200, 2, machine.now_s)
    assert not usage.admits(201, 2, machine.now_s)
    with pytest.raises(LimitedError) as caught:
        usage.check_bytes(401)
    assert caught.value.detail == (
        "this key or token may have 1,000 bytes a day (UTC) and has 400 left; the response has 401"
    )
    assert caught.value.retry_s == DAY_S - 1_000
    assert (caught.value.window_s, caught.value.unit) == (DAY_S, "content-bytes")
    assert caught.value.left == 400
    with pytest.raises(LimitedError, match="more than any day has: ask for a shorter range"):
        usage.check_bytes(1_001)
    usage.give_back(100, day)
    usage.check_bytes(500)
    assert not usage.is_spent
    usage.spend(500)
    assert usage.is_spent
    usage.check_bytes(0)  # 304, HEAD
    machine.now_s = MIDNIGHT + DAY_S
    assert not usage.is_spent
    usage.give_back(500, day)
    usage.check_bytes(1_000)
    with pytest.raises(LimitedError):
        usage.check_bytes(1_001)


def test_responses_that_begin_at_once_do_not_exceed(machine: Machine) -> None:
    """A hundred downloads of 300 bytes: three are promised, and nothing waits between."""
    usage, begun = machine.usage(Allowance(bytes_per_day=1_000)), 0
    for _ in range(100):
        try:
            usage.check_bytes(300)
        except LimitedError:
            continue
        usage.spend(300)
        begun += 1
    assert begun == 3


def test_streams_are_those_of_all_workers(machine: Machine) -> None:
    """From open to close; nobody knows when one will end."""
    one, two = (machine.usage(Allowance(streams=2), worker) for worker in (0, 1))
    one.open_stream()
    two.open_stream()
    with pytest.raises(LimitedError) as caught:
        one.open_stream()
    assert (caught.value.retry_s, caught.value.window_s) == (STREAMS_RETRY_S, None)
    two.close_stream()
    one.open_stream()
    assert machine.limited("streams") == 1


def test_addresses_have_requests_of_their_own(machine: Machine) -> None:
    """Over both workers, each network for itself."""
    one, two = machine.workers
    for limits in (one, two, one):
        limits.check_address(NETWORK)
    with pytest.raises(LimitedError, match=r"^this address may ask 3 times a second"):
        two.check_address(NETWORK)
    two.check_address(bytes([192, 0, 2, 2]))
    assert machine.limited("address") == 1


def test_the_clock_set_back_begins_a_window_again(machine: Machine) -> None:
    """Nobody waits for the time that the clock had."""
    usage = machine.usage(Allowance(requests_per_s=1, bytes_per_day=10))
    usage.check_request()
    usage.spend(10)
    machine.now_s -= 3_600  # the day before
    usage.check_request()
    usage.check_bytes(10)
    usage.spend(4)
    with pytest.raises(LimitedError) as caught:
        usage.check_bytes(7)
    assert caught.value.retry_s == 3_600 - 1_000


def test_an_excess_of_several_servers_takes_off_the_seconds_that_follow() -> None:
    """Each second takes one quota off it. Retry-After says how many that are."""
    machine = Machine(asks_world=True)
    world = SharedCounts(machine.fd, WORLD, asks_world=True)
    second, meter = int(machine.now_s), meter_of(REQUESTS, "desk")
    world.set_world(meter, second, count=6, excess=11, quota=4)
    usage = machine.usage(Allowance(requests_per_s=4))
    left = []
    for _ in range(5):
        admitted = 0
        while usage.admits(0, 1, machine.now_s):
            admitted += 1
        left.append(admitted)
        machine.now_s += 1
    assert left == [0, 0, 0, 1, 4]
    machine.now_s = second + 1
    with pytest.raises(LimitedError) as caught:
        usage.check_request()
    assert caught.value.retry_s == 2
    os.close(machine.fd)


def test_what_is_limited_is_refused_while_redis_is_away_if_so_wished() -> None:
    """From the start until the first exchange, and again once exchanges fail."""
    machine = Machine(asks_world=True, fails_closed=True)
    usage, world = machine.usage(Allowance(streams=1)), SharedCounts(machine.fd, WORLD)
    assert not usage.admits(0, 1, machine.now_s)
    with pytest.raises(OverloadError, match="cannot be counted"):
        usage.check_request()
    with pytest.raises(OverloadError):
        machine.workers[1].check_address(NETWORK)
    assert machine.limited("away") == 2
    world.asked_ns = machine.monotonic_ns
    usage.check_request()
    machine.monotonic_ns += AWAY_AFTER_NS
    assert usage.admits(0, 1, machine.now_s)
    machine.monotonic_ns += 1
    assert not usage.admits(0, 1, machine.now_s)
    os.close(machine.fd)


def test_with_limits_that_fail_open_the_own_counts_still_hold() -> None:
    """A server that cannot ask others counts for itself."""
    machine = Machine(asks_world=True)
    usage = machine.usage(Allowance(requests_per_s=1))
    usage.check_request()
    with pytest.raises(LimitedError):
        usage.check_request()
    os.close(machine.fd)


def test_counts_that_were_given_up_are_counted(machine: Machine) -> None:
    """Each once."""
    limits = machine.workers[0]
    limits.counts.forgotten = 3
    limits.tend()
    limits.tend()
    assert machine.counters[slots.LIMITS_FORGOTTEN] == 3
