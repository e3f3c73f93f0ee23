"""Which errors a system call can give, and when a run makes one fail.

Owns the table. Errors that only a programmer's mistake brings (EBADF, EFAULT, ENOTSOCK) are not in
it, nor EINTR where CPython calls again (PEP 475), which it does not for close(2). Calls that Linux
never lets fail for another reason have an empty row: setsockopt(2) of SO_LINGER and TCP_NODELAY,
ioctl(2) of SIOCOUTQ, close(2) of a socket.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random

_PEER = (errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH)
_PATH = (
    errno.EACCES,
    errno.EIO,
    errno.ELOOP,
    errno.ENOENT,
    errno.ENOMEM,
    errno.ENOTDIR,
    errno.ESTALE,
)

ERRORS: dict[str, tuple[int, ...]] = {
    "open": (*_PATH, errno.EMFILE, errno.ENFILE),  # open(2)
    "fstat": (errno.EIO, errno.ENOMEM, errno.ESTALE),  # stat(2)
    "stat": _PATH,
    "lstat": _PATH,
    "scandir": (errno.EIO, errno.EMFILE, errno.ENOENT, errno.ENOMEM, errno.ESTALE),  # fdopendir(3)
    "pread": (errno.EIO, errno.ENOMEM, errno.ESTALE),  # read(2)
    "close": (errno.EIO, errno.EINTR),  # close(2); the descriptor is gone all the same
    "dup": (errno.EMFILE, errno.ENOMEM),  # dup(2)
    "readahead": (errno.EIO, errno.ENOMEM, errno.ESTALE),  # reading pages in, as read(2)
    "sendfile": (
        *_PEER,
        errno.EAGAIN,
        errno.EINVAL,
        errno.EIO,
        errno.ENOMEM,
        errno.EOVERFLOW,
        errno.EPIPE,
    ),
    "socket": (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),  # socket(2)
    "accept": (
        errno.EAGAIN,
        errno.ECONNABORTED,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
        errno.EPROTO,
    ),
    "recv": (*_PEER, errno.EAGAIN, errno.ENOMEM),  # recv(2), tcp(7)
    "send": (*_PEER, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EPIPE),  # send(2)
    "sendmsg": (*_PEER, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EPIPE),
    "shutdown": (errno.ENOTCONN,),  # shutdown(2): the peer's reset came first
    "inotify_add": (errno.ENOSPC, errno.ENOMEM),  # inotify_add_watch(2)
    "inotify_read": (),
    "lseek": (),  # lseek(2): a regular file has an end
    "setsockopt": (),
    "ioctl": (),
    "close_socket": (),
}

LASTING = 40
"""Calls for which a lasting fault lasts: more than one request makes of most names."""

LOOKS_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})
"""A file system that says so is believed: 404, or a symbol that is not listed."""


class Faults(Protocol):
    """Says of each system call whether it fails."""

    def strike(self, name: str, number: int) -> int | None:
        """The errno with which the `number`-th call, of `name`, fails; None for as usual."""


class NoFaults:
    """Everything works."""

    def strike(self, _name: str, _number: int) -> int | None:
        """Nothing fails."""
        return None


class RandomFaults:
    """Each call fails with `probability`, in any way it can."""

    def __init__(self, rng: Random, probability: float) -> None:
        self._rng = rng
        self._probability = probability

    def strike(self, name: str, _number: int) -> int | None:
        """One of the errors of its row, now and then."""
        if self._rng.random() >= self._probability or not ERRORS[name]:
            return None
        return self._rng.choice(ERRORS[name])


class TrueFaults(RandomFaults):
    """The same without errors that a file system which has the name never gives."""

    def strike(self, name: str, number: int) -> int | None:
        """See `RandomFaults`."""
        code = super().strike(name, number)
        return None if code in LOOKS_ABSENT else code


class NthFault:
    """The n-th call fails with `code`; if `lasting`, so do the next `LASTING` calls of its name."""

    def __init__(self, number: int, code: int, *, lasting: bool) -> None:
        self._number = number
        self._code = code
        # What never becomes true again is no way to say "not now".
        self._left = LASTING if lasting and code != errno.EAGAIN else 0
        self._name = ""

    def strike(self, name: str, number: int) -> int | None:
        """The error, when its turn has come."""
        if number == self._number:
            self._name = name
            return self._code
        if name == self._name and self._left:
            self._left -= 1
            return self._code
        return None


class Names:
    """Nothing fails; the name of each call is kept."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def strike(self, name: str, _number: int) -> int | None:
        """Write it down."""
        self.names.append(name)
        return None
