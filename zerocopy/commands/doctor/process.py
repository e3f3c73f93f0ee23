"""What the configuration needs of the process and of the machine's memory and processors.

Owns the checks of descriptors, locked memory, mappings, memory and processors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.commands.doctor.finding import Finding, Verdict, ok, size, sysctl, unknown
from zerocopy.commands.doctor.host import UNLIMITED

if TYPE_CHECKING:
    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import Needs

WORKER_BYTES = 64 << 20
"""Anonymous memory of an idle worker with its libraries, an estimate with room."""

CONNECTION_BYTES = 5_000
TLS_CONNECTION_BYTES = 40_000
"""Of an idle connection at most, plain and over TLS; tests/slow/test_scale_of_load.py."""

OWN_MAPPINGS = 1_000
"""Entries of the address space of a worker without mapped files: libraries, heaps, stacks."""


def descriptors(host: Host, needs: Needs) -> Finding:
    """RLIMIT_NOFILE; a worker raises its soft limit to the hard one by itself."""
    check, limits = "open files", host.limit("Max open files")
    if limits is None:
        return unknown(check, "RLIMIT_NOFILE (/proc/PID/limits)")
    soft, hard = limits
    found = (
        f"{_count(hard)} descriptors (soft {_count(soft)}), a worker needs {needs.descriptors}, "
        f"{needs.live_descriptors} of them for live streams"
    )
    if hard >= needs.descriptors:
        return ok(check, found)
    left = max(1, hard - (needs.descriptors - needs.connections))
    nr_open = host.number("proc/sys/fs/nr_open")
    change = f"LimitNOFILE={needs.descriptors} in [Service]; in a shell ulimit -Hn"
    if nr_open is not None and nr_open < needs.descriptors:
        change = f"{sysctl('fs.nr_open', needs.descriptors)}; {change}"
    return Finding(
        check,
        Verdict.CHANGE,
        found,
        change,
        f"connections_max = {needs.connections} holds; as it is a worker serves {left} at once",
        "getrlimit(2); BEHAVIOR.md, Load",
    )


def descriptors_of_all(host: Host, needs: Needs) -> Finding:
    """fs.file-max, which all processes of the machine share."""
    check, most = "open files of all", host.number("proc/sys/fs/file-max")
    if most is None:
        return unknown(check, "fs.file-max")
    needed = needs.descriptors * needs.worker_count(host.processors() or 1)
    found = f"fs.file-max is {most}, the workers need {needed} together"
    if most >= needed:
        return ok(check, found)
    return Finding(
        check,
        Verdict.CHANGE,
        found,
        sysctl("fs.file-max", 2 * needed),
        "accept(2) and open(2) fail with ENFILE beyond it, for every process",
        "proc(5)",
    )


def locked_memory(host: Host, needs: Needs) -> Finding:
    """RLIMIT_MEMLOCK, which holds for each process on its own."""
    check = "locked memory"
    if not needs.locked_bytes:
        return ok(check, "nothing is to be locked: no TLS listener, or locked_bytes_max = 0")
    if host.may_lock_anything():
        return ok(check, "CAP_IPC_LOCK: no limit holds")
    limits = host.limit("Max locked memory")
    if limits is None:
        return unknown(check, "RLIMIT_MEMLOCK (/proc/PID/limits)")
    soft, _ = limits
    found = f"{_bytes(soft)} may be locked, a worker locks up to {size(needs.locked_bytes)}"
    if soft >= needs.locked_bytes:
        return ok(check, found)
    return Finding(
        check,
        Verdict.CHANGE,
        found,
        f"LimitMEMLOCK={needs.locked_bytes} in [Service]; or [memory] locked_bytes_max = {soft}",
        "mapped days stay in memory; others may be paged out, and reading them waits for the disk",
        "mlock(2)",
    )


def mappings(host: Host, needs: Needs) -> Finding:
    """vm.max_map_count: each mapped file takes an entry."""
    check, most = "memory maps", host.number("proc/sys/vm/max_map_count")
    if most is None:
        return unknown(check, "vm.max_map_count")
    needed = needs.mapped_files + OWN_MAPPINGS
    found = f"vm.max_map_count is {most}, a worker needs some {needed}"
    if most >= needed:
        return ok(check, found)
    return Finding(
        check,
        Verdict.CHANGE,
        found,
        sysctl("vm.max_map_count", 2 * needed),
        "mmap(2) fails with ENOMEM beyond it",
        "proc(5); mmap(2)",
    )


def memory(host: Host, needs: Needs) -> Finding:
    """What the workers may hold, against the machine and its control group."""
    check, total = "memory", host.memory_bytes()
    if total is None:
        return unknown(check, "/proc/meminfo")
    allowed = host.memory_allowed()
    most = total if allowed is None else min(total, allowed)
    workers = needs.worker_count(host.processors() or 1)
    locked = workers * needs.locked_bytes
    each = TLS_CONNECTION_BYTES if needs.has_tls else CONNECTION_BYTES
    kept = needs.plan_cache_bytes + needs.spool_bytes + needs.rollup_bytes
    held = workers * (WORKER_BYTES + kept + needs.connections * each)
    of = "of the machine" if most == total else "of the control group"
    found = f"{size(most)} {of}; the workers lock {size(locked)} and hold {size(held)} at most"
    if locked + held > most:
        return Finding(
            check,
            Verdict.CHANGE,
            found,
            "MemoryMax= above the sum, or lower [memory] locked_bytes_max, [formats] "
            "spool_bytes_max or the workers",
            "locking fails or a worker is killed where memory ends; the page cache of the day "
            "files counts too",
            "mlock(2); Documentation/admin-guide/cgroup-v2.rst, memory.max",
        )
    return ok(check, found)


def processors(host: Host, needs: Needs) -> Finding:
    """Workers, processors and the quota of the control group."""
    check, here = "processors", host.processors()
    if here is None:
        return unknown(check, "Cpus_allowed_list (/proc/PID/status)")
    workers, quota = needs.worker_count(here), host.processors_allowed()
    found = f"{workers} workers on {here} processors"
    if quota is not None:
        found += f", with a quota of {quota:g} (cpu.max)"
    if quota is not None and quota < min(workers, here):
        return Finding(
            check,
            Verdict.ADVICE,
            found,
            f"[server] workers = {max(1, int(quota))}, or CPUQuota={100 * workers}% in [Service]",
            "a group that spent its quota stands still until the next period, 100 ms as a rule",
            "Documentation/admin-guide/cgroup-v2.rst, cpu.max",
        )
    if workers > here:
        return Finding(
            check,
            Verdict.ADVICE,
            found,
            "[server] workers = 0",
            "each worker is one thread of work: more of them than processors wait for each other",
            "ARCHITECTURE.md",
        )
    if workers < here:
        return Finding(
            check,
            Verdict.NOTE,
            found,
            "[server] workers = 0",
            "a worker uses one processor; 0 starts one a processor",
            "config.toml",
        )
    return ok(check, found)


def _count(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else str(limit)


def _bytes(limit: int) -> str:
    return "any amount" if limit == UNLIMITED else size(limit)
