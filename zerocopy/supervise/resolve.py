"""From the name of a host to an address that can be bound, by a resolver that may take its time.

Owns the call of getaddrinfo(3) for whatever this server listens on. No deadline ends such a call,
so it is made in a thread that is left behind when its time is over. It must never run in the main
loop of the supervisor, which restarts workers and feeds the watchdog.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import Any, NamedTuple


class Address(NamedTuple):
    """Where a host is, on any port."""

    family: int
    sockaddr: tuple[Any, ...]

    def at(self, port: int) -> tuple[Any, ...]:
        """What bind(2) takes for `port`."""
        return (self.sockaddr[0], port, *self.sockaddr[2:])


def resolve(host: str) -> Address:
    """The first address of `host`. Blocks for as long as the resolver does.

    Raises:
        OSError: there is none, or no resolver knows it.
        ValueError: it is no name; such as UnicodeError, because a label is too long.
    """
    family, _, _, _, sockaddr = socket.getaddrinfo(
        host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return Address(family, sockaddr)


def resolve_within(host: str, deadline_s: float) -> Address:
    """The first address of `host`. Blocks for `deadline_s` at most.

    Raises:
        OSError: as `resolve`, or it took too long.
        ValueError: as `resolve`.
    """
    outcomes: queue.SimpleQueue[Address | OSError | ValueError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            outcomes.put(resolve(host))
        except (OSError, ValueError) as error:
            outcomes.put(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        outcome = outcomes.get(timeout=deadline_s)
    except queue.Empty:
        raise TimeoutError(0, f"the name was not resolved within {deadline_s:g} s") from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def cause_of(error: OSError | ValueError) -> str:
    """Why there is no address, or why it cannot be bound."""
    if isinstance(error, ValueError):
        return "this is no host name and no address"
    # getaddrinfo(3) has errors of its own, below zero, and their words with them.
    known = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return known or type(error).__name__


def on_one_line(message: str) -> str:
    """`message` with whatever cannot be printed escaped: a host may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
