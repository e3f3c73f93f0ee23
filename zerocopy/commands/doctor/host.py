"""Reading a machine: /proc, /sys, and the interpreter that runs.

Owns where each value stands and how it is written there. What cannot be read is None, never an
error. It judges nothing. `root` is the directory above proc and sys, so that a test gives a tree
of its own.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

UNLIMITED = sys.maxsize
"""How a limit reads that is none."""

PACKAGES = ("uvloop", "httptools", "hypercorn", "h2")
"""What the server cannot do without, of all that is compiled or that it extends."""

_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python that would serve."""

    version: str
    configured: str
    packages: dict[str, str | None]
    has_ktls: bool
    openssl: str


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system that a path is on."""

    point: str
    kind: str
    options: frozenset[str]
    device: str
    """Major and minor number, `254:0`."""


def this_interpreter() -> Interpreter:
    """The one that runs now."""
    return Interpreter(
        version=sys.version.split()[0],
        configured=str(sysconfig.get_config_var("CONFIG_ARGS") or ""),
        packages={name: _version_of(name) for name in PACKAGES},
        has_ktls=hasattr(ssl, "OP_ENABLE_KTLS"),
        openssl=ssl.OPENSSL_VERSION,
    )


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class Host:
    """A machine, as the process `pid` sees it: its limits, its mounts, its control group."""

    def __init__(
        self, root: str = "/", pid: str = "self", interpreter: Interpreter | None = None
    ) -> None:
        self._root = root
        self._process = f"proc/{pid}"
        self.interpreter = interpreter or this_interpreter()
        self.page_bytes = os.sysconf("SC_PAGE_SIZE")

    def text(self, path: str) -> str | None:
        """What a file below the root holds, without blanks around it."""
        try:
            with open(os.path.join(self._root, path), encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except (OSError, ValueError):
            return None

    def numbers(self, path: str) -> tuple[int, ...] | None:
        """The numbers that a file holds; None also where it holds anything else."""
        try:
            return tuple(int(word) for word in (self.text(path) or "none").split())
        except ValueError:
            return None

    def number(self, path: str) -> int | None:
        """The only number that a file holds."""
        numbers = self.numbers(path)
        return numbers[0] if numbers is not None and len(numbers) == 1 else None

    def chosen(self, path: str) -> str | None:
        """The word in brackets: `always [madvise] never`."""
        _, _, rest = (self.text(path) or "").partition("[")
        return rest.partition("]")[0] or None

    def exists(self, path: str) -> bool:
        """Whether there is such a file or directory below the root."""
        return os.path.exists(os.path.join(self._root, path))

    # ---- the process

    def limit(self, name: str) -> tuple[int, int] | None:
        """Soft and hard limit of that name in /proc/PID/limits, `Max open files`."""
        for line in (self.text(f"{self._process}/limits") or "").splitlines():
            if line.startswith(name):
                soft, hard = (_limit(word) for word in line[len(name) :].split()[:2])
                return soft, hard
        return None

    def may_lock_anything(self) -> bool:
        """Whether the process has CAP_IPC_LOCK, so that RLIMIT_MEMLOCK does not hold it."""
        return bool(int(self._status("CapEff") or "0", 16) & 1 << _CAP_IPC_LOCK)

    def processors(self) -> int | None:
        """On how many processors the process may run."""
        allowed = self._status("Cpus_allowed_list")
        if allowed is None:
            return None
        ends = (part.partition("-") for part in allowed.split(","))
        return sum(int(last or first) - int(first) + 1 for first, _, last in ends)

    def _status(self, name: str) -> str | None:
        for line in (self.text(f"{self._process}/status") or "").splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
        return None

    # ---- memory and control groups

    def memory_bytes(self) -> int | None:
        """All memory of the machine."""
        for line in (self.text("proc/meminfo") or "").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
        return None

    def memory_allowed(self) -> int | None:
        """The least memory.max from the process's control group up; None where there is none."""
        found = [
            _limit(text)
            for folder in self._control_groups("memory")
            for name in ("memory.max", "memory.limit_in_bytes")
            if (text := self.text(f"{folder}/{name}")) is not None
        ]
        least = min(found, default=UNLIMITED)
        # Version 1 writes the largest multiple of a page for "no limit".
        return least if least < 1 << 62 else None

    def processors_allowed(self) -> float | None:
        """The least quota of processors from the control group up; None where there is none."""
        quotas = []
        for folder in self._control_groups("cpu"):
            quota, _, period = (self.text(f"{folder}/cpu.max") or "").partition(" ")
            if not quota:
                quota = self.text(f"{folder}/cpu.cfs_quota_us") or ""
                period = self.text(f"{folder}/cpu.cfs_period_us") or ""
            if quota.isdigit() and period.isdigit():
                quotas.append(int(quota) / int(period))
        return min(quotas, default=None)

    def _control_groups(self, controller: str) -> list[str]:
        """The directories of the process's group of one controller and of those above it."""
        folders = []
        for line in (self.text(f"{self._process}/cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = f"sys/fs/cgroup/{controllers}".rstrip("/")
            while path not in ("", "/"):
                folders.append(top + path)
                path = path.rpartition("/")[0]
            # A container sees its own group at the top.
            folders.append(top)
        return folders

    # ---- files

    def mount_of(self, path: str) -> Mount | None:
        """The mount that holds `path`: of those with the longest matching point, the last one."""
        best = None
        for line in (self.text(f"{self._process}/mountinfo") or "").splitlines():
            before, _, after = line.partition(" - ")
            _, _, device, _, point, options, *_ = before.split()
            kind, _, super_options = (*after.split(maxsplit=2), "")[:3]
            # A blank is written \040.
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
            is_below = point == "/" or f"{path}/".startswith(f"{point}/")
            if is_below and (best is None or len(point) >= len(best.point)):
                words = frozenset([*options.split(","), *super_options.split(",")])
                best = Mount(point, kind, words, device)
        return best


def _limit(word: str) -> int:
    return int(word) if word.isdigit() else UNLIMITED
