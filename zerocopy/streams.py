"""The standard streams of a process, whatever whoever started it has made of them.

Owns descriptors 0, 1 and 2: that there are three, and in which form text leaves by them. It must
never know what is written.
"""

from __future__ import annotations

import os
import sys

from zerocopy.core.errors import ConfigError

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
