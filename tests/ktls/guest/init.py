"""The first process of the virtual machine: makes it usable, runs one program, ends the machine.

Owns what an init system would do, with the standard library alone. The program's standard output
and then its exit status leave by the second serial port; everything else is seen on the first.
Environment variables come from the kernel's command line, the program from PROGRAM.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import traceback
import tty

MODULES = "/modules"
"""Kernel modules, named so that each comes after those it needs."""

PROGRAM = "/program.json"
"""The arguments after the interpreter."""

WORK = "/work"
DESCRIPTORS_MAX = 524_288
"""What systemd gives a service. Of the kernel's 4,096 a server keeps all but one for files."""

FINIT_MODULE = 313  # of x86-64
RB_AUTOBOOT = 0x0123_4567
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
INTERFACE = struct.Struct("16sh14x")

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, path: str) -> None:
    """Mount a file system that needs no device."""
    os.makedirs(path, exist_ok=True)
    if libc.mount(kind.encode(), path.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}")


def load_module(path: str) -> None:
    """Load a kernel module; one that this processor cannot use is left out."""
    with open(path, "rb") as file:
        if libc.syscall(FINIT_MODULE, file.fileno(), b"", 0) != 0:
            print(f"{path}: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def raise_loopback() -> None:
    """Bring `lo` up, the only network there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, INTERFACE.pack(b"lo", 0))
        name, flags = INTERFACE.unpack(asked)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, INTERFACE.pack(name, flags | IFF_UP))


def main() -> int:
    """The program's exit status."""
    for kind, path in (
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/tmp"),
    ):
        mount(kind, path)
    for name in sorted(os.listdir(MODULES)):
        load_module(os.path.join(MODULES, name))
    raise_loopback()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, DESCRIPTORS_MAX))
    with open(PROGRAM, "rb") as file:
        arguments = json.load(file)
    environ = {**os.environ, "PATH": "/bin", "HOME": "/tmp", "PYTHONPATH": f"{WORK}:/packages"}
    with open("/dev/ttyS1", "wb", buffering=0) as result:
        tty.setraw(result.fileno())
        status = subprocess.call(
            [sys.executable, *arguments],
            cwd=WORK,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=result,
        )
        result.write(b"\nexit status %d\n" % status)
    return status


if __name__ == "__main__":
    with contextlib.suppress(BaseException):
        try:
            main()
        except BaseException:  # noqa: BLE001  # without its first process the kernel panics
            traceback.print_exc()
    os.sync()
    libc.reboot(RB_AUTOBOOT)  # QEMU's -no-reboot makes this the end
