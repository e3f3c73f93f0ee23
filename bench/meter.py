"""Processor time and memory: of a server, and of whoever disturbs it and its client.

Owns the reading of proc(5). It must never know what is measured.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of all processes of a server together; None where the kernel does not tell."""

    resident: int | None = None
    """Pages it maps and that are there, day files in the page cache too, shared ones twice."""
    peak: int | None = None
    """The most `resident` since the measurement began, each process at its own peak."""
    own: int | None = None
    """Anonymous pages, shared ones by their share: what would be free without the server."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter read."""

    cpu_s: float
    """Processor seconds of the server."""
    others_share: float
    """Of all cores, what was taken by whoever is neither server nor client."""
    client_s: float
    """Processor seconds of this process and of the children it has waited for."""
    wall_s: float
    waited_s: float
    """Seconds that threads of the server, and this one, were to run and had no core."""
    memory: Memory


class Meter:
    """Processor time from its construction to `read`: the server's, and that of strangers."""

    def __init__(self, pids: Iterable[int], cores: frozenset[int]) -> None:
        self._pids = tuple(pids)
        self._cores = cores
        for pid in self._pids:
            _forget_peak(pid)
        self._begun = self._sample()

    def read(self) -> Reading:
        """Everything since the construction; memory as it is now."""
        server_s, client_s, busy_s, wall_s, waited_s = (
            after - before for before, after in zip(self._begun, self._sample(), strict=True)
        )
        others_s = max(0.0, busy_s - server_s - client_s)
        others_share = others_s / (wall_s * len(self._cores))
        memory = memory_of(self._pids)
        return Reading(server_s, others_share, client_s, wall_s, waited_s, memory)

    def _sample(self) -> tuple[float, float, float, float, float]:
        times = os.times()
        client_s = times.user + times.system + times.children_user + times.children_system
        server_s = sum(map(cpu_seconds, self._pids))
        waited_s = sum(waited_seconds(pid) for pid in (os.getpid(), *self._pids))
        return server_s, client_s, _busy_seconds(self._cores), time.monotonic(), waited_s


def cpu_seconds(pid: int) -> float:
    """Processor seconds, user and system, of all threads of a process until now (proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_fine(pid: int) -> float:
    """The same to the nanosecond, of the threads that live: for a server with nothing to do.

    stat counts ticks of 10 ms, and forgets no thread that has ended, as schedstat does.
    """
    return _schedstat_s(pid, 0)


def waited_seconds(pid: int) -> float:
    """Seconds that the threads of a process which live were to run and had no core."""
    return _schedstat_s(pid, 1)


def _schedstat_s(pid: int, place: int) -> float:
    """The first or second figure of schedstat, of all threads (sched-stats.rst of the kernel)."""
    total_ns = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        path = f"/proc/{pid}/task/{thread}/schedstat"
        # A thread may have just ended.
        with suppress(OSError), open(path, encoding="ascii") as file:
            total_ns += int(file.read().split()[place])
    return total_ns / NS_PER_S


def memory_of(pids: Iterable[int]) -> Memory:
    """The memory of these processes together."""
    found: dict[str, int] = {}
    for pid in pids:
        for name, kilobytes in _kilobytes(pid).items():
            found[name] = found.get(name, 0) + (kilobytes << 10)
    return Memory(found.get("VmRSS"), found.get("VmHWM"), found.get("Pss_Anon"))


def _kilobytes(pid: int) -> dict[str, int]:
    """Every field of status and smaps_rollup that is given in kB."""
    fields = {}
    for name in ("status", "smaps_rollup"):
        # smaps_rollup needs the right to trace the process; without it two figures of three stay.
        with suppress(OSError), open(f"/proc/{pid}/{name}", encoding="utf-8") as file:
            for line in file:
                if line.endswith(" kB\n"):
                    field, _, value = line.partition(":")
                    fields[field] = int(value.split()[0])
    return fields


def _forget_peak(pid: int) -> None:
    """Let the peak begin again at what is resident now (clear_refs of proc(5))."""
    with suppress(OSError), open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _busy_seconds(cores: frozenset[int]) -> float:
    """Seconds in which `cores` ran anything at all since boot: neither idle nor waiting for I/O.

    Time the hypervisor gave to another machine (steal) counts as busy: it disturbs as much.
    """
    ticks = 0
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            name, *values = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
                ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
