"""The standard streams of a process, in whatever state the parent process left them.

Owns descriptors 0, 1 and 2: that there are three, that text of any characters can be written, and
how a failing command reports its reason in one line. It must never know what else is written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback

from zerocopy.core.errors import ConfigError, ZerocopyError

_OF_WRITES = frozenset(
    {errno.EAGAIN, errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE}
)
_NAMES = ("standard input", "standard output", "standard error")


def open_missing() -> None:
    """Open /dev/null for each standard stream that is closed; before anything else is opened.

    Else the next descriptor, a socket or the memory of the counters, gets its number, and whoever
    means the stream reads or writes there.

    Raises:
        ConfigError: there is no /dev/null.
    """
    for fd, name in enumerate(_NAMES):
        try:
            os.fstat(fd)
        except OSError:
            try:
                got = os.open(os.devnull, os.O_RDWR)
            except OSError as error:
                raise ConfigError(
                    f"{name} is closed, and {os.devnull} cannot take its place: {error.strerror}"
                ) from None
            assert got == fd, "open(2) takes the lowest number that is free"
            os.set_inheritable(fd, True)
            stream = open(fd, "w" if fd else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            attribute = ("stdin", "stdout", "stderr")[fd]
            setattr(sys, attribute, stream)
            setattr(sys, f"__{attribute}__", stream)


def escape_what_has_no_code() -> None:
    """Write a character that the encoding of a stream has not as an escape, as Python's repr does.

    Such as an ellipsis in latin-1, or a byte of a file name that is not UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(line: str) -> None:
    """Write one line to standard error, or nothing where that is full or gone.

    Where the log has taken that over, it is the stream beneath that is written to.
    """
    stream = getattr(sys.stderr, "beneath", sys.stderr)
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except OSError:
        _drop_what_waits(2)


def fail(error: Exception) -> int:
    """Tell why a command has failed; the exit code."""
    if isinstance(error, ZerocopyError):
        tell(f"zerocopy: {error.detail}{_cause(error)}")
    elif isinstance(error, OSError):
        if isinstance(error.__context__, BrokenPipeError):
            error = error.__context__  # rich looks for a /dev/null then, which may not be there
        # What fails to be written and names no file is a stream: commands name theirs themselves.
        where = f"{_NAMES[1]}: " if error.errno in _OF_WRITES else ""
        where = f"{error.filename}: " if isinstance(error.filename, str) else where
        tell(f"zerocopy: {where}{error.strerror or error}")
        _drop_what_waits(1)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__}: {error}".split())
        tell(f"zerocopy: a fault of zerocopy itself: {what} ({place.filename}:{place.lineno})")
    return 1


def _cause(error: ZerocopyError) -> str:
    """The operating system's word and the path, which only the operator may see."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.filename is None:
        return ""
    return f" ({cause.strerror}: {cause.filename})"


def _drop_what_waits(fd: int) -> None:
    """Let Python flush its buffer at the end, which would else fail once more, and say so."""
    with contextlib.suppress(OSError):
        os.dup2(os.memfd_create("zerocopy-unwritten"), fd)
