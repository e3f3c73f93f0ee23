"""Locking and populating mapped files, through libc.

Owns the system calls that keep mapped pages in memory, the budget of locked bytes and the words for
the operator when the system refuses. A refusal is never an error: the file is served all the same
and only may be paged out. Nothing here maps or unmaps; munmap(2) unlocks.

By ctypes, which lets go of the interpreter lock during a call: the standard library has no
mlock(2), and its `mmap.madvise` keeps that lock while pages are read from the disk.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MLOCK_ONFAULT = 1
"""mlock2(2): lock what is there and each page as it comes, instead of reading all of them now."""
MADV_WILLNEED = 3
MADV_POPULATE_READ = 22
"""madvise(2), Linux 5.14: the page tables are filled as if each page had been read."""

_POPULATED_AT_ONCE = 8 << 20
"""Bytes of one madvise(2), which may hold the lock that every other mmap(2) here waits for."""

_PAGE = mmap.PAGESIZE
_NO_ONFAULT = frozenset({errno.ENOSYS, errno.EINVAL})
_WITHOUT = "[memory] locked_bytes_max = 0 does without"
_CAUSES = {
    errno.ENOMEM: (
        "the limit of locked memory is reached: raise LimitMEMLOCK= of the service (ulimit -l) to "
        "[memory] locked_bytes_max, give it CAP_IPC_LOCK, or lower locked_bytes_max"
    ),
    errno.EPERM: (
        "the process may lock no memory: set LimitMEMLOCK= of the service (ulimit -l) to "
        f"[memory] locked_bytes_max or give it CAP_IPC_LOCK; {_WITHOUT}"
    ),
    errno.EAGAIN: (
        "memory is short: give the service more (MemoryMax=) or lower [memory] locked_bytes_max"
    ),
    errno.EINVAL: f"the kernel does not lock files of this file system; {_WITHOUT}",
    errno.ENOSYS: (
        "the kernel or a sandbox has no mlock(2): let SystemCallFilter= of the service allow "
        f"@memlock; {_WITHOUT}"
    ),
}


class Libc(Protocol):
    """The calls that are used, as section 2 of the manual has them; all let go of the GIL.

    Each returns 0 or the errno.
    """

    def mlock2(self, address: int, nbytes: int, flags: int) -> int:
        """Lock what is there now, and each page as it comes; ENOSYS where libc cannot."""

    def mlock(self, address: int, nbytes: int) -> int:
        """Read all of it and lock it."""

    def munlock(self, address: int, nbytes: int) -> int:
        """Undo a lock."""

    def madvise(self, address: int, nbytes: int, advice: int) -> int:
        """Say what is going to be read."""


class SystemLibc:
    """The C library this interpreter runs on."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)

    def mlock2(self, address: int, nbytes: int, flags: int) -> int:
        """Lock as it comes; in glibc since 2.27."""
        return self._call("mlock2", address, nbytes, ctypes.c_uint(flags))

    def mlock(self, address: int, nbytes: int) -> int:
        """Read all of it and lock it."""
        return self._call("mlock", address, nbytes)

    def munlock(self, address: int, nbytes: int) -> int:
        """Undo a lock."""
        return self._call("munlock", address, nbytes)

    def madvise(self, address: int, nbytes: int, advice: int) -> int:
        """Say what is going to be read."""
        return self._call("madvise", address, nbytes, ctypes.c_int(advice))

    def _call(self, name: str, address: int, nbytes: int, *last: object) -> int:
        function = getattr(self._library, name, None)
        if function is None:
            return errno.ENOSYS
        # errno is kept for each thread by ctypes.
        if function(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), *last) == 0:
            return 0
        return ctypes.get_errno()


LIBC: Libc = SystemLibc()


class MemoryLocks:
    """Locks mappings up to `locked_bytes_max` bytes, counted in whole pages; 0 locks nothing.

    Used from planning threads at once; the lock guards the accounting, never a system call.
    `on_refused` gets one sentence for each cause (errno) in the life of the object, from whichever
    thread met it.
    """

    def __init__(
        self, locked_bytes_max: int, on_refused: Callable[[str], object], libc: Libc = LIBC
    ) -> None:
        assert locked_bytes_max >= 0, "a budget"
        self._budget = locked_bytes_max
        self._on_refused = on_refused
        self._libc = libc
        self._has_onfault = True
        self._spent = 0
        self._warned: set[int] = set()
        # Filled by finalizers, which may run inside any statement and so must take no lock.
        self._returned: deque[int] = deque()
        self._lock = threading.Lock()

    @property
    def locked_bytes(self) -> int:
        """Bytes locked now, those being locked included."""
        with self._lock:
            self._settle()
            return self._spent

    def lock(self, address: int, nbytes: int) -> int:
        """Lock a mapping that starts at `address`, if the budget has room.

        Returns how many bytes to give back when the mapping has gone; 0: nothing was locked. Never
        raises.
        """
        nbytes = -(-nbytes // _PAGE) * _PAGE
        if nbytes == 0 or not self._reserve(nbytes):
            return 0
        code = self._try(address, nbytes)
        if code == 0:
            return nbytes
        # mlock(2) that failed halfway leaves the mapping marked, and charged to the limit.
        self._libc.munlock(address, nbytes)
        self.give_back(nbytes)
        self._warn(code)
        return 0

    def give_back(self, nbytes: int) -> None:
        """Return to the budget what `lock` returned; called once the memory is unlocked.

        May be called by a finalizer at any moment in any thread.
        """
        self._returned.append(nbytes)

    def populate(self, address: int, nbytes: int) -> None:
        """Fill the page tables of a mapping, reading what is not in memory; blocks, never raises.

        EFAULT and EHWPOISON (madvise(2)) mean that the file shrank or failed: the next check of the
        file before reading it will find out.
        """
        for start in range(0, nbytes, _POPULATED_AT_ONCE):
            step = min(_POPULATED_AT_ONCE, nbytes - start)
            code = self._libc.madvise(address + start, step, MADV_POPULATE_READ)
            if code == errno.EINVAL:
                self._libc.madvise(address, nbytes, MADV_WILLNEED)
            if code:
                return

    def _try(self, address: int, nbytes: int) -> int:
        if self._has_onfault:
            code = self._libc.mlock2(address, nbytes, MLOCK_ONFAULT)
            if code not in _NO_ONFAULT:
                return code
            self._has_onfault = False
        return self._libc.mlock(address, nbytes)

    def _reserve(self, nbytes: int) -> bool:
        with self._lock:
            self._settle()
            if self._spent + nbytes > self._budget:
                return False
            self._spent += nbytes
            return True

    def _settle(self) -> None:
        while self._returned:
            self._spent -= self._returned.popleft()

    def _warn(self, code: int) -> None:
        with self._lock:
            if code in self._warned:
                return
            self._warned.add(code)
        self._on_refused(sentence_for(code))


def sentence_for(code: int) -> str:
    """One sentence that tells the operator why nothing is locked and what to do (mlock(2))."""
    name = errno.errorcode.get(code, f"errno {code}")
    cause = _CAUSES.get(code, f"the system refuses; {_WITHOUT}")
    return f"A mapped day file is not locked into memory ({name}): {cause}."


class _PyBuffer(ctypes.Structure):
    """Py_buffer of the C API, the same in every CPython since 3.3."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),  # the reference is PyBuffer_Release's affair, not that of ctypes
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


# Prototypes of our own: those of ctypes.pythonapi belong to every library in the process.
_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)


def address_of(mapped: mmap.mmap) -> int:
    """Where a mapping begins, read-only ones too; good for as long as `mapped` is referenced.

    `from_buffer` of ctypes takes writable memory only.
    """
    buffer = _PyBuffer()
    _get_buffer(mapped, buffer, 0)  # PyBUF_SIMPLE
    try:
        return int(buffer.buf)
    finally:
        _release_buffer(buffer)
