"""What the kernel says of this process's memory, a C library that refuses, and child processes."""

from __future__ import annotations

import errno
import mmap
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = mmap.PAGESIZE

# Takes CAP_IPC_LOCK (bit 14 of capset(2)) and the right to lock memory from the child it runs in.
POWERLESS = """
import ctypes, resource
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
for index in (0, 1, 2):
    sets[index] &= ~(1 << 14)
assert libc.capset(header, sets) == 0
resource.setrlimit(resource.RLIMIT_MEMLOCK, (LIMIT, LIMIT))
"""

# Serves three columns of the root in argv[1], the first of them in argv[2], and locks as it can.
SERVING = """
import sys
from tests.storage.memory import kernel_locked_bytes
from tests.storage.test_dayfile_views import fetched
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.mapping import MappedFiles
from zerocopy.storage.libc.memlock import MemoryLocks
mapped = MappedFiles(9, MemoryLocks(1 << 30, lambda sentence: print("said", sentence)))
files = OpenFiles(sys.argv[1], 9, mapped)
for column in ["c0", "c1", "c2"]:
    with open(sys.argv[2].replace("c0.", column + "."), "rb") as file:
        content = file.read()
    view = fetched(files, column).view(0, len(content))
    assert isinstance(view, memoryview) and view == content
assert (mapped.locked_bytes, kernel_locked_bytes(), len(mapped)) == (0, 0, 3)
print("served")
"""


def mappings_of(path: str) -> int:
    """How many mappings of a file this process has, deleted or not (proc(5), maps)."""
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    return sum(line.removesuffix(" (deleted)").endswith(path) for line in lines)


def kernel_locked_bytes() -> int:
    """Bytes this process has locked (proc(5), VmLck)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmLck")).split()[1]) * 1024


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)


class FakeLibc:
    """Answers each call with the errno given for its name, 0 without one; writes down the calls."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.calls: list[tuple[str, int, int]] = []

    def mlock2(self, address: int, nbytes: int, flags: int) -> int:
        """Only ever called with MLOCK_ONFAULT."""
        assert flags == 1
        return self._answer("mlock2", address, nbytes)

    def mlock(self, address: int, nbytes: int) -> int:
        """Write down."""
        return self._answer("mlock", address, nbytes)

    def munlock(self, address: int, nbytes: int) -> int:
        """Write down."""
        return self._answer("munlock", address, nbytes)

    def madvise(self, address: int, nbytes: int, advice: int) -> int:
        """Write down, by the name of the advice."""
        name = {22: "populate", 3: "willneed"}[advice]
        return self._answer(name, address, nbytes)

    def _answer(self, name: str, address: int, nbytes: int) -> int:
        self.calls.append((name, address, nbytes))
        return self.codes.get(name, 0)


REFUSING = {"mlock2": errno.ENOSYS, "mlock": errno.ENOMEM}
