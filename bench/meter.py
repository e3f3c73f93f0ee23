"""Processor time: of a server, and of whoever disturbs it and its client.

Owns the reading of proc(5). It must never know what is measured.
"""

from __future__ import annotations

import os
import time


class Meter:
    """Processor time from its construction to `read`: the server's, and that of strangers."""

    def __init__(self, pid: int, cores: frozenset[int]) -> None:
        self._pid = pid
        self._cores = cores
        self._begun = self._sample()

    def read(self) -> tuple[float, float]:
        """The server's processor seconds, and the share of all `cores` that strangers took."""
        server_s, client_s, busy_s, wall_s = (
            after - before for before, after in zip(self._begun, self._sample(), strict=True)
        )
        others_s = max(0.0, busy_s - server_s - client_s)
        return server_s, others_s / (wall_s * len(self._cores))

    def _sample(self) -> tuple[float, float, float, float]:
        times = os.times()
        client_s = times.user + times.system + times.children_user + times.children_system
        return cpu_seconds(self._pid), client_s, _busy_seconds(self._cores), time.monotonic()


def cpu_seconds(pid: int) -> float:
    """Processor seconds, user and system, of all threads of a process until now (proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
