"""The states of an HTTP/1.1 connection and the bounds on its turns.

A connection is in one state, and moves only like this:

    READY      → PENDING     a head seen before: answered at the end of this turn of the loop
    READY      → WAITING     a request needs a thread to plan its answer
    READY      → SENDING     the socket is full, the turn is spent, or there are segments
    PENDING    → READY       its turn has ended
    WAITING    → READY       the answer is there
    SENDING    → FETCHING    what comes next is on the disk: a thread reads it
    FETCHING   → SENDING     it is in memory
    SENDING    → READY       all of it is in the kernel
    READY      → LINGERING   the last answer is out; wait for the client to close (RFC 9112, 9.6)
    any        → CLOSED      by either side, by a deadline, or because a promise broke
"""

from __future__ import annotations

import enum

RECV_BYTES = 8_192
"""Bytes asked of one recv(2), allocated anew for each: some dozens of small requests."""

PIPELINE_MAX = 64
"""Requests that may wait for their turn before the socket is no longer read."""

RESPONSE_COST_BYTES = 8_192
"""What one response costs its turn at least, so that many tiny ones end it too."""

LINGER_S = 2.0
"""Seconds a client gets to close after the last answer; see RFC 9112 section 9.6."""

LINGER_BYTES_MAX = 1_048_576
"""Bytes dropped while lingering before the connection is closed regardless."""

STALL_SAMPLES = 4
"""Progress is sampled so many times in one write-progress timeout."""


class State(enum.Enum):
    """Where a connection stands; the module's docstring has the legal moves."""

    READY = "ready"
    PENDING = "pending"
    WAITING = "waiting"
    SENDING = "sending"
    FETCHING = "fetching"
    LINGERING = "lingering"
    CLOSED = "closed"
