"""What the kernel, its clock and its memory, and the interpreter bring along.

Owns the checks of versions, page sizes, huge pages, clocks, kernel TLS, inotify and the build of
Python.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from zerocopy.commands.doctor.finding import Finding, Verdict, ok, size, unknown

if TYPE_CHECKING:
    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import Needs

KERNEL_SINCE = (
    ((4, 4), "mlock2(2)", "locking a file reads all of it at once"),
    ((5, 14), "MADV_POPULATE_READ", "a mapped file is faulted in page by page"),
)
"""What is used where it is there: since which version, what, and what happens without."""

PYTHON_LEAST = (3, 11)
FAST_CLOCKS = frozenset({"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"})
"""Clock sources that are read in user space (vdso(7))."""

THP = "sys/kernel/mm/transparent_hugepage/enabled"
CLOCKS = "sys/devices/system/clocksource/clocksource0"


def kernel(host: Host, needs: Needs) -> Finding:
    """The version, for what mapping and locking use."""
    check, release = "kernel", host.text("proc/sys/kernel/osrelease")
    numbers = re.match(r"(\d+)\.(\d+)", release or "")
    if release is None or numbers is None:
        return unknown(check, "kernel.osrelease")
    found = (int(numbers[1]), int(numbers[2]))
    missing = [(call, without) for since, call, without in KERNEL_SINCE if found < since]
    if not missing or not needs.has_tls:
        return ok(check, f"{release}: sendfile(2) and all that is used where it is there")
    return Finding(
        check,
        Verdict.ADVICE,
        f"{release} has no {', '.join(call for call, _ in missing)}",
        "a kernel from 5.14 on",
        f"without, {'; '.join(without for _, without in missing)}",
        "mlock2(2), madvise(2)",
    )


def page_size(host: Host, _needs: Needs) -> Finding:
    """Locked bytes are counted in whole pages."""
    return Finding("page size", Verdict.NOTE, size(host.page_bytes))


def huge_pages(host: Host, _needs: Needs) -> Finding:
    """Transparent huge pages: `always` makes heaps larger."""
    check, chosen = "transparent huge pages", host.chosen(THP)
    if chosen is None:
        return Finding(check, Verdict.NOTE, "the kernel has none")
    if chosen != "always":
        return ok(check, chosen)
    return Finding(
        check,
        Verdict.ADVICE,
        chosen,
        f"echo madvise > /{THP}",
        "a heap that touches a part of a huge page pays for all of it",
        "Documentation/admin-guide/mm/transhuge.rst",
    )


def clock(host: Host, _needs: Needs) -> Finding:
    """Whether asking for the time is a system call."""
    check, current = "clock", host.text(f"{CLOCKS}/current_clocksource")
    if current is None:
        return unknown(check, "the clock source")
    if current in FAST_CLOCKS:
        return ok(check, current)
    available = (host.text(f"{CLOCKS}/available_clocksource") or "").split()
    better = next((name for name in available if name in FAST_CLOCKS), "tsc")
    return Finding(
        check,
        Verdict.ADVICE,
        current,
        f"echo {better} > /{CLOCKS}/current_clocksource (see dmesg for why it was not chosen)",
        "each turn of an event loop asks for the time; this source makes it a system call",
        "vdso(7)",
    )


def kernel_tls(host: Host, _needs: Needs) -> Finding:
    """The tls module: with it, and an option of Python, files leave over TLS by sendfile(2)."""
    module = "there" if host.exists("sys/module/tls") else "not loaded"
    option = "has" if host.interpreter.has_ktls else "has no"
    return Finding(
        "kernel TLS",
        Verdict.NOTE,
        f"module tls is {module}, Python {option} ssl.OP_ENABLE_KTLS ({host.interpreter.openssl}); "
        "with both, HTTP/1.1 over TLS sends files by sendfile(2)",
    )


def inotify(host: Host, needs: Needs) -> Finding:
    """Whether each worker may watch as many directories as /api/symbols may need."""
    watches = host.number("proc/sys/fs/inotify/max_user_watches")
    instances = host.number("proc/sys/fs/inotify/max_user_instances")
    if watches is None or instances is None:
        return unknown("inotify", "fs.inotify")
    wanted = needs.watched_directories * needs.worker_count(host.processors() or 1)
    found = f"{watches} watches, {instances} instances; up to {wanted} watches for /api/symbols"
    if watches >= wanted:
        return Finding("inotify", Verdict.OK, found)
    return Finding(
        "inotify",
        Verdict.ADVICE,
        found,
        f"sysctl -w fs.inotify.max_user_watches={wanted}",
        "/api/symbols need not read the whole data root for each request; needed only with so many "
        "directories",
        "inotify(7)",
    )


def python(host: Host, _needs: Needs) -> Finding:
    """The interpreter's version and how it was built."""
    check, interpreter = "Python", host.interpreter
    found = f"{interpreter.version}"
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < PYTHON_LEAST:
        return Finding(check, Verdict.CHANGE, found, "Python 3.11 or newer", "", "README.md")
    if "--enable-optimizations" in interpreter.configured:
        lto = ", with LTO" if "--with-lto" in interpreter.configured else ""
        return ok(check, f"{found}, built with profile-guided optimization{lto}")
    return Finding(
        check,
        Verdict.ADVICE,
        f"{found}, built without --enable-optimizations, as far as it tells",
        "an interpreter configured with --enable-optimizations --with-lto",
        "the build that CPython's own documentation recommends for speed",
        "docs.python.org/3/using/configure.html",
    )


def libraries(host: Host, _needs: Needs) -> Finding:
    """The compiled libraries and those that are extended."""
    check, packages = "libraries", host.interpreter.packages
    missing = [name for name, version in packages.items() if version is None]
    if missing:
        return Finding(
            check,
            Verdict.CHANGE,
            f"{', '.join(missing)} not installed",
            f"pip install {' '.join(missing)}",
            "the server does not start without",
            "pyproject.toml",
        )
    return ok(check, ", ".join(f"{name} {version}" for name, version in packages.items()))
