"""The states of an HTTP/1.1 connection, and the moves between them.

Owns the table of legal moves, and the bounds of a connection. Only the connection changes its
state, and asserts each change against the table. `docs/states.py` copies it to ARCHITECTURE.md.
"""

from __future__ import annotations

import enum

RECV_BYTES = 8_192
"""Bytes asked of one recv(2), allocated anew for each: some dozens of small requests."""

PIPELINE_MAX = 64
"""Requests that may wait for their turn before the socket is no longer read."""

RESPONSE_COST_BYTES = 8_192
"""What one response costs its turn at least, so that many tiny ones end it too."""

IGNORED_BYTES_MAX = 65_536
"""Bytes behind a request whose response is endless: nothing answers them. Above this the socket is
no longer read."""


class State(enum.Enum):
    """Where a connection stands; `follows` holds the states that may come next."""

    READY = "ready"
    PENDING = "pending"
    WAITING = "waiting"
    QUEUED = "queued"
    SENDING = "sending"
    FETCHING = "fetching"
    STREAMING = "streaming"
    LINGERING = "lingering"
    CLOSED = "closed"

    def __init__(self, _value: str) -> None:
        # A tuple: a lookup in it compares identities and costs 30 ns, hashing a member 150 ns.
        self.follows: tuple[State, ...] = ()


MEANINGS = {
    State.READY: "between two requests, or amid the head of one",
    State.PENDING: "a known head came; answered at the end of this iteration of the event loop",
    State.WAITING: "a thread plans the response",
    State.QUEUED: "the connection waits for its next turn",
    State.SENDING: "a response is being sent; the client is to take some of it",
    State.FETCHING: "a thread reads from the disk what is sent next",
    State.STREAMING: "an endless response has begun; its feed is to say more",
    State.LINGERING: "the last response has left; the client is to close",
    State.CLOSED: "the socket is closed",
}

MOVES = {
    (State.READY, State.PENDING): "the bytes of a known head arrive",
    (State.PENDING, State.READY): "its response has left, or it is answered by itself",
    (State.PENDING, State.SENDING): "the socket did not take all of its response",
    (State.PENDING, State.QUEUED): "the same, and other connections are first",
    (State.READY, State.WAITING): "a request needs a plan",
    (State.WAITING, State.READY): "the response is there",
    (State.READY, State.SENDING): "the socket is full, or the response has segments",
    (State.READY, State.QUEUED): "the turn is spent, or other connections are first",
    (State.SENDING, State.QUEUED): "the turn is spent, or the socket has room again",
    (State.QUEUED, State.SENDING): "the turn comes, with a response to send",
    (State.QUEUED, State.READY): "the turn comes, with requests to answer",
    (State.SENDING, State.FETCHING): "the next bytes are not in memory",
    (State.FETCHING, State.QUEUED): "they are",
    (State.SENDING, State.READY): "the kernel has all of the response",
    (State.STREAMING, State.SENDING): "the socket is full, or a message is large",
    (State.SENDING, State.STREAMING): "the kernel has all of a message, or of the head",
    (State.STREAMING, State.QUEUED): "the turn is spent between two messages",
    (State.QUEUED, State.STREAMING): "the turn comes, between two messages",
    (State.STREAMING, State.LINGERING): "the endless response has ended",
    (State.READY, State.LINGERING): "no request follows (RFC 9112 section 9.6)",
}
"""All legal moves but one: each state leads to CLOSED, by the client, a deadline, or a broken
promise."""

for _state in State:
    _next = [after for before, after in MOVES if before is _state]
    _state.follows = (*_next, State.CLOSED) if _state is not State.CLOSED else ()
