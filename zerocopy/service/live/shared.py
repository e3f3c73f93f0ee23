"""What all tails of a worker use."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zerocopy.core.counters import Counters
    from zerocopy.service.live.jobs import Jobs
    from zerocopy.service.live.past import Past
    from zerocopy.service.live.reader import Reader
    from zerocopy.storage.live.follower import DayFollower


class Shared(NamedTuple):
    """What all tails of a worker use.

    `wake` calls the readers, some at a time; `call_soon` calls behind what the event loop does now.
    """

    follower: DayFollower
    jobs: Jobs
    counters: Counters
    clock_ns: Callable[[], int]
    wake: Callable[[Iterable[Reader]], object]
    call_soon: Callable[[Callable[[], object]], object]
    past: Past
