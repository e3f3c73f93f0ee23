"""Telling the service manager: sd_notify(3) over a datagram socket, and its watchdog.

Owns NOTIFY_SOCKET and WATCHDOG_USEC. It must never know what the messages are about. Without a
manager nothing is sent. A manager that does not read makes nothing wait or fail.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

BEATS_PER_TIMEOUT = 3
"""Messages within WATCHDOG_USEC; sd_watchdog_enabled(3) asks for two, one of three may be late."""

VALUE_CHARACTERS_MAX = 1_024
"""Characters of one value, such as the reason of a refusal; a datagram is bounded."""


class Notifier:
    """The way to the service manager, if there is one; the variables leave `environ`."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        timeout_us = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_s: float | None = None
        """Seconds without a beat after which the manager ends the service."""
        is_ours = process in ("", str(os.getpid()))
        if self._socket is not None and is_ours and timeout_us.isdecimal() and int(timeout_us):
            self.watchdog_s = int(timeout_us) / 1e6
        self.beat_at_s = time.monotonic() if self.watchdog_s is not None else float("inf")
        """When the next beat is due."""

    def send(self, **fields: str | int) -> None:
        """Send one message of `NAME=value` lines; losing one is no error."""
        if self._socket is None:
            return
        message = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(errors="backslashreplace"), self._address)

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def reloading(self) -> None:
        """A reload has begun. The time is that of CLOCK_MONOTONIC, as Type=notify-reload asks."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1_000)

    def beat(self, now_s: float, *, is_alive: bool) -> None:
        """Feed the watchdog when a beat is due and all is well."""
        if self.watchdog_s is None or now_s < self.beat_at_s:
            return
        self.beat_at_s = now_s + self.watchdog_s / BEATS_PER_TIMEOUT
        if is_alive:
            self.send(WATCHDOG=1)


def _one_line(value: str | int) -> str:
    """A line feed within a value would begin the next one."""
    return str(value)[:VALUE_CHARACTERS_MAX].replace("\n", " ")
