"""How much a name or an address may have, and what it is told when that is used up.

Owns the limits, each a quota of one window, and the sentences. What was had is counted in
`shared_counts.py`. Windows begin with a second or a day (UTC). A request that is refused counts as
nothing.

    policy     window   counts
    requests   second   requests of a name, once it is known
    bytes      day      content of a name, when its response begins; what was not sent is given back
    streams    none     live streams of a name, from begin to close
    address    second   requests of an address, before it is known who asks
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from zerocopy.access.shared_counts import ADDRESSES, BYTES, REQUESTS, STREAMS, meter_of
from zerocopy.core import counters as slots
from zerocopy.core.errors import LimitedError, OverloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.access.shared_counts import Meter, SharedCounts
    from zerocopy.core.access import Allowance, Grant
    from zerocopy.core.counters import Counters

DAY_S = 86_400

AWAY_AFTER_NS = 2_000_000_000
"""Since the last exchange with Redis: after it, that is away. Several exchanges, and a time-out."""

STREAMS_RETRY_S = 5
"""What who has too many streams is asked to wait. Nobody knows when one of them ends."""

ADDRESSES_KNOWN_MAX = 4_096
"""Addresses whose places in the counts are known without a search."""


class Limits:
    """The limits of one worker; used in the event loop's thread only.

    `fails_closed`: what is limited is refused while the counts of other servers are unknown. The
    clocks are those of `time`.
    """

    def __init__(
        self,
        counts: SharedCounts,
        counters: Counters,
        *,
        per_address_max: int = 0,
        fails_closed: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.counts = counts
        self.clock = clock
        self._counters = counters
        self._per_address_max = per_address_max
        self._fails_closed = fails_closed
        self._monotonic_ns = monotonic_ns
        self._addresses: dict[bytes, Meter] = {}

    def usage_of(self, grant: Grant) -> NameUsage | None:
        """What counts for a grant, made when it first asks; None where nothing of it is limited."""
        usage = grant.usage
        if usage is None and grant.allowance.is_limited:
            usage = grant.usage = NameUsage(self, grant.name, grant.allowance)
        assert usage is None or isinstance(usage, NameUsage), "made here"
        return usage

    @property
    def is_unknown(self) -> bool:
        """Whether requests are refused because nobody knows what other servers have counted."""
        return self._fails_closed and (self._monotonic_ns() - self.counts.asked_ns > AWAY_AFTER_NS)

    def check_known(self) -> None:
        """Assure that what is limited may be answered.

        Raises:
            OverloadError: not now.
        """
        if self.is_unknown:
            self._counters[slots.LIMITED["away"]] += 1
            raise OverloadError("the limits cannot be counted for now; try again")

    def tend(self) -> None:
        """Called about once a second: count what was forgotten for want of room."""
        self._counters[slots.LIMITS_FORGOTTEN] += self.counts.forgotten
        self.counts.forgotten = 0

    # ---- addresses

    def admits_address(self, network: bytes, times: int = 1) -> bool:
        """Whether so many requests of an address may be answered; counts nothing."""
        if self.is_unknown:
            return False
        had = self.counts.total(self._meter_of(network), int(self.clock()))
        return had + times <= self._per_address_max

    def take_address(self, network: bytes, times: int = 1) -> None:
        """Count so many requests of an address."""
        meter, second = self._meter_of(network), int(self.clock())
        self.counts.add(meter, second, times, self._per_address_max)

    def check_address(self, network: bytes) -> None:
        """Count a request of an address.

        Raises:
            LimitedError: it has had as many as it may in this second.
            OverloadError: nobody knows how many it has had.
        """
        self.check_known()
        if not self.admits_address(network):
            had = self.counts.total(self._meter_of(network), int(self.clock()))
            raise self.refusal_a_second("address", had, self._per_address_max)
        self.take_address(network)

    def _meter_of(self, network: bytes) -> Meter:
        meter = self._addresses.get(network)
        if meter is None:
            if len(self._addresses) >= ADDRESSES_KNOWN_MAX:
                self._addresses.clear()
            meter = self._addresses[network] = meter_of(ADDRESSES, network.hex())
        return meter

    # ---- what a client is told

    def refusal_a_second(self, policy: str, had: int, quota: int) -> LimitedError:
        """No request is left of `quota` in this second; an excess takes off the next ones."""
        now_s = self.clock()
        retry_s = max(1, math.ceil(int(now_s) + max(1, had // quota) - now_s))
        who = "address" if policy == "address" else "key or token"
        return self.refusal(
            f"this {who} may ask {quota} times a second; try again in {retry_s} s",
            policy,
            quota,
            window_s=1,
            retry_s=retry_s,
        )

    def refusal(
        self,
        detail: str,
        policy: str,
        quota: int,
        *,
        window_s: int | None,
        retry_s: int,
        unit: str = "requests",
        left: int = 0,
    ) -> LimitedError:
        """The error that says so, which is counted."""
        self._counters[slots.LIMITED[policy]] += 1
        return LimitedError(
            detail,
            policy=policy,
            quota=quota,
            window_s=window_s,
            retry_s=retry_s,
            unit=unit,
            left=left,
        )


class NameUsage:
    """What one name has had of its allowance: `Usage`, and what the guard asks besides."""

    __slots__ = ("_allowance", "_bytes", "_counts", "_limits", "_requests", "_streams")

    def __init__(self, limits: Limits, name: str, allowance: Allowance) -> None:
        self._limits = limits
        self._counts = limits.counts
        self._allowance = allowance
        self._requests = meter_of(REQUESTS, name)
        self._bytes = meter_of(BYTES, name)
        self._streams = meter_of(STREAMS, name)

    # ---- requests

    def admits(self, nbytes: int, times: int, now_s: float) -> bool:
        """See `Usage`: the way of a response that is at hand. Counts all of them, or none."""
        allowance, counts = self._allowance, self._counts
        if self._limits.is_unknown:
            return False
        if nbytes and allowance.bytes_per_day is not None:
            had = counts.total(self._bytes, int(now_s // DAY_S))
            if had + nbytes * times > allowance.bytes_per_day:
                return False
        quota = allowance.requests_per_s
        if quota is None:
            return True
        second = int(now_s)
        if counts.total(self._requests, second) + times > quota:
            return False
        counts.add(self._requests, second, times, quota)
        return True

    def check_request(self) -> None:
        """Count a request.

        Raises:
            LimitedError: the name has had as many as it may in this second.
            OverloadError: nobody knows how many it has had.
        """
        self._limits.check_known()
        quota, second = self._allowance.requests_per_s, int(self._limits.clock())
        if quota is None:
            return
        had = self._counts.total(self._requests, second)
        if had >= quota:
            raise self._limits.refusal_a_second("requests", had, quota)
        self._counts.add(self._requests, second, 1, quota)

    # ---- bytes

    def check_bytes(self, nbytes: int) -> None:
        """Assure that so many bytes are left of today; `spend` counts them, once they are promised.

        Raises:
            LimitedError: they are not.
        """
        quota = self._allowance.bytes_per_day
        if quota is None or not nbytes:
            return
        day = int(self._limits.clock() // DAY_S)
        left = max(0, quota - self._counts.total(self._bytes, day))
        if nbytes > left:
            wanted = f"the response has {nbytes:,}"
            if nbytes > quota:
                wanted += ", more than any day has: ask for a shorter range"
            raise self._refusal_of_bytes(quota, left, wanted)

    def _refusal_of_bytes(self, quota: int, left: int, wanted: str) -> LimitedError:
        """There is more tomorrow."""
        return self._limits.refusal(
            f"this key or token may have {quota:,} bytes a day (UTC) and has {left:,} left; "
            f"{wanted}",
            "bytes",
            quota,
            window_s=DAY_S,
            retry_s=max(1, math.ceil(DAY_S - self._limits.clock() % DAY_S)),
            unit="content-bytes",
            left=left,
        )

    @property
    def is_spent(self) -> bool:
        """Whether no byte is left of today."""
        quota = self._allowance.bytes_per_day
        day = int(self._limits.clock() // DAY_S)
        return quota is not None and self._counts.total(self._bytes, day) >= quota

    def spend(self, nbytes: int) -> int:
        """See `Usage`."""
        day = int(self._limits.clock() // DAY_S)
        if nbytes and self._allowance.bytes_per_day is not None:
            self._counts.add(self._bytes, day, nbytes)
        return day

    def give_back(self, nbytes: int, day: int) -> None:
        """See `Usage`."""
        if nbytes and self._allowance.bytes_per_day is not None:
            self._counts.give_back(self._bytes, day, nbytes)

    # ---- streams

    def open_stream(self) -> None:
        """Count a live stream, until `close_stream`.

        Raises:
            LimitedError: the name has as many as it may, or has had all bytes of today.
        """
        if self.is_spent:
            quota = self._allowance.bytes_per_day or 0
            raise self._refusal_of_bytes(quota, 0, "a live stream would end at once")
        most = self._allowance.streams
        if most is not None and self._counts.streams(self._streams) >= most:
            raise self._limits.refusal(
                f"this key or token may have {most} live streams at once",
                "streams",
                most,
                window_s=None,
                retry_s=STREAMS_RETRY_S,
                unit="concurrent-requests",
            )
        self._counts.add_stream(self._streams)

    def close_stream(self) -> None:
        """One that was opened has ended."""
        self._counts.end_stream(self._streams)
