"""Run a command under the system call filter of a unit: `python -m tests.confined UNIT COMMAND…`.

Owns what systemd would do of it before execve(2), where it does not run as process 1: what
SystemCallFilter= allows, its groups as `systemd-analyze syscall-filter` lists them, by libseccomp,
and MemoryDenyWriteExecute= (by prctl(2) where systemd 252 uses a filter; the rule is the same).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import subprocess
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO = 0x7FFF_0000, 0x0005_0000
SCMP_ERROR = -1


def settings_of(unit: str, key: str) -> list[str]:
    """The values of a key of a unit, in their order."""
    with open(unit, encoding="utf-8") as file:
        return [line.partition("=")[2].strip() for line in file if line.startswith(key + "=")]


def expand(names: list[str]) -> set[str]:
    """System calls by name; groups begin with @ and may hold others."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name],
            check=True,
            capture_output=True,
            text=True,
        )
        lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
        calls |= expand([line for line in lines if line and not line.startswith("#")])
    return calls


def allowed_by(unit: str) -> set[str]:
    """What the lines of SystemCallFilter= come to: the first allows, those with ~ take away."""
    calls: set[str] = set()
    for line in settings_of(unit, "SystemCallFilter"):
        if line.startswith("~"):
            calls -= expand(line[1:].split())
        else:
            calls |= expand(line.split())
    return calls


def confine(unit: str) -> None:
    """Load the filter into this process; what it executes inherits it."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    seccomp.seccomp_rule_add.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
    ]  # fmt: skip
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    number = getattr(errno, settings_of(unit, "SystemCallErrorNumber")[-1])
    context = seccomp.seccomp_init(SCMP_ACT_ERRNO | number)
    for call in allowed_by(unit):
        resolved = seccomp.seccomp_syscall_resolve_name(call.encode())
        if resolved != SCMP_ERROR:  # younger than the library, or of another architecture
            seccomp.seccomp_rule_add(context, SCMP_ACT_ALLOW, resolved, 0)
    if settings_of(unit, "MemoryDenyWriteExecute") == ["yes"]:
        assert libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
