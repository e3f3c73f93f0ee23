"""One turn of sendfile(2): the only place in the package that sends by it.

Owns the meaning of every outcome of the system call. It must never know what the bytes are, nor
wait: it takes two descriptors and integers, and says what to do next.

The idea to read it by: the offset is always passed, so the kernel neither uses nor moves the file
position (sendfile(2): "if offset is not NULL"), and one read-only descriptor serves every
connection at the same time. A turn ends for exactly one of four reasons, the members of `Outcome`,
or with an error.
"""

from __future__ import annotations

import enum
import os

CALL_BYTES_MAX = 0x7FFF_F000
"""Bytes one call may ask for: sendfile(2) NOTES, "at most 0x7ffff000 (2,147,479,552) bytes".

The kernel cuts a larger count by itself; nginx caps below 2 GiB because old kernels answered
EINVAL or EOVERFLOW instead. Python's ssize_t would let either through.
"""


class Outcome(enum.Enum):
    """Why a turn ended. Anything else that can happen to the call is an exception."""

    DONE = "done"  # count bytes are in the socket
    BUDGET_SPENT = "budget spent"  # turn_bytes_max bytes are in the socket: serve the others first
    WOULD_BLOCK = "would block"  # the socket's buffer is full: wait until it is writable
    END_OF_FILE = "end of file"  # the file ends before offset + count: it was truncated


def send_range(
    out_fd: int, in_fd: int, offset: int, count: int, turn_bytes_max: int
) -> tuple[int, Outcome]:
    """Send up to `turn_bytes_max` of the file's bytes [offset, offset + count) to a socket.

    The outcomes of the system call, one by one:

    - all that was asked for: DONE, or BUDGET_SPENT when the range is longer than the turn;
    - short, because the socket's buffer filled up, a signal came, or the file ends: called again,
      and the next call says which of them it was;
    - EAGAIN: WOULD_BLOCK, also when an earlier call of this turn sent something;
    - EINTR: never seen here; CPython calls again (PEP 475), unless a signal handler raises;
    - zero: END_OF_FILE. The sender promised these bytes and must abort the connection, never pad.

    Args:
        out_fd: A socket in non-blocking mode; a blocking one would hold the event loop.
        in_fd: A regular file, open for reading. Its position is neither used nor moved.
        offset: Where in the file to begin.
        count: How many bytes to send, at least one.
        turn_bytes_max: How many to send before the other connections get their turn.

    Returns:
        The bytes sent in this turn, and why the turn ended.

    Raises:
        ConnectionError: The peer is gone: ECONNRESET (it sent a reset) or EPIPE (it was seen
            before, or our side is shut down). SIGPIPE is ignored by CPython.
        OSError: Everything else, and nothing is retried: EIO and ENOMEM (the file cannot be read
            now), EINVAL (not a file that can be mapped, or a locked descriptor), EOVERFLOW and
            ESPIPE (offset and count do not fit the file), ENOTCONN, ETIMEDOUT (the kernel gave
            the peer up), EBADF. As in the io module, `characters_written` on the exception holds
            what this turn had sent before the error.
    """
    assert offset >= 0
    assert count > 0
    assert turn_bytes_max > 0
    budget = min(count, turn_bytes_max)
    sent = 0
    try:
        while sent < budget:
            nbytes = os.sendfile(out_fd, in_fd, offset + sent, min(budget - sent, CALL_BYTES_MAX))
            if nbytes == 0:
                return sent, Outcome.END_OF_FILE
            sent += nbytes
    except BlockingIOError:
        return sent, Outcome.WOULD_BLOCK
    except OSError as error:
        # Every OSError has this slot in C; the stubs show it on BlockingIOError only.
        error.characters_written = sent  # type: ignore[attr-defined]
        raise
    return sent, Outcome.DONE if sent == count else Outcome.BUDGET_SPENT
