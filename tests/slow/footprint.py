"""What the workers of a server hold: descriptors, threads, memory, and what they count of it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.client import poll
from tests.faults.tls_client import anonymous_bytes, status_number, threads

if TYPE_CHECKING:
    from tests.server import RunningServer

MIB = 1 << 20
KEPT_BY_MALLOC_BYTES = 32 * MIB
"""TRIM_THRESHOLD_BYTES of the worker: free memory at the top of the heap that is not given back."""

MARGIN_BYTES = 16 * MIB
"""Arenas of planning threads, free lists, and pages that small objects keep from being returned."""

SWEPT_S = 90.0
"""Longer than three sweeps of 20 s: what nobody used is closed and unmapped by then."""


class Footprint(NamedTuple):
    """Sums over the workers; `pids` tell whether they are still the same."""

    pids: frozenset[int]
    descriptors: int
    """Without those of data files, which a cache of bounded size keeps open."""
    data_descriptors: int
    threads: int
    resident: int
    anonymous: int
    kernel_locked: int
    connections: float
    mapped: float
    locked: float
    open_files: float
    plan_cache: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"descriptors {self.descriptors}+{self.data_descriptors} of data, "
            f"threads {self.threads}, VmRSS {self.resident / MIB:.1f} MiB, "
            f"RssAnon {self.anonymous / MIB:.1f}, VmLck {self.kernel_locked / MIB:.1f}, "
            f"connections {self.connections:.0f}, mapped {self.mapped / MIB:.1f} MiB, "
            f"locked {self.locked / MIB:.1f}, open files {self.open_files:.0f}, "
            f"plan cache {self.plan_cache / MIB:.1f}"
        )


def footprint(server: RunningServer, root: str) -> Footprint:
    """Look at every worker now."""
    pids = server.worker_pids()
    named = [name for pid in pids for name in descriptors_of(pid)]
    of_data = sum(name.startswith(f"{root}/") for name in named)
    return Footprint(
        frozenset(pids),
        len(named) - of_data,
        of_data,
        sum(threads(pid) for pid in pids),
        sum(status_number(pid, "VmRSS") for pid in pids),
        sum(anonymous_bytes(pid) for pid in pids),
        sum(status_number(pid, "VmLck") for pid in pids),
        *(
            server.metric(f"zerocopy_{name}")
            for name in (
                "connections",
                "mapped_bytes",
                "locked_bytes",
                "open_files",
                "plan_cache_bytes",
            )
        ),
    )


def rested(server: RunningServer, root: str, *, is_swept: bool = False) -> Footprint:
    """Look once nobody is connected and, `is_swept`, once nothing of a closed day is kept."""
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections", 30)
    if is_swept:
        poll(lambda: server.metric("zerocopy_mapped_bytes") == 0, "all to be unmapped", SWEPT_S)
        poll(lambda: server.metric("zerocopy_locked_bytes") == 0, "all to be unlocked", 10)
    return footprint(server, root)


def assert_given_back(
    server: RunningServer, root: str, before: Footprint, slack_bytes: int = 0
) -> Footprint:
    """What the workers held before is what they hold now; what they hold now.

    Memory may have grown by the plans that are cached, which have a bound of their own, by what
    malloc(3) keeps, by a margin, and by `slack_bytes`.
    """

    def is_back() -> bool:
        now = footprint(server, root)
        return now.connections == 0 and now.descriptors <= before.descriptors

    poll(is_back, f"descriptors and connections as before: {before}", 30)
    now = footprint(server, root)
    assert now.pids == before.pids, "a worker died"
    workers = len(now.pids)
    assert now.threads <= before.threads + 5 * workers, "threads beyond planners and a reload"
    plans = max(0.0, now.plan_cache - before.plan_cache)
    allowed = plans + workers * (KEPT_BY_MALLOC_BYTES + MARGIN_BYTES) + slack_bytes
    grown = now.anonymous - before.anonymous
    assert grown <= allowed, f"{grown} bytes grown, {allowed} allowed"
    assert now.data_descriptors <= 2 * 512 * workers, "more data files than the caches may hold"
    return now


def descriptors_of(pid: int) -> list[str]:
    """What the descriptors of a process are, by name."""
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return names
