"""An endless response: what a service has to say as it happens, pulled by a transport.

Owns the words between both, and nothing of how they are found or framed. The transport asks for the
next message once the client's socket has taken the last one, so no message waits in memory for a
client that is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.plan import Segment


class Message(NamedTuple):
    """One whole message: `content`, then `segments`; `nbytes` of both.

    Equal clients get the same object, so a transport may keep what it has made of it by identity.
    """

    content: bytes
    segments: tuple[Segment, ...] = ()
    nbytes: int = 0


class Heartbeat:
    """Nothing has happened for a while; the client, and what is between, are to see that."""


class End(NamedTuple):
    """Nothing follows. `code` is a close code of RFC 6455 section 7.4, `reason` a short sentence.

    Server-sent events have no such code: what their clients must know came as a message before.
    """

    code: int
    reason: str


HEARTBEAT = Heartbeat()

GOING_AWAY = End(1001, "the server is stopping; go on elsewhere with the cursor")
"""What a transport says by itself in a drain, after the last whole message."""

Item = Message | Heartbeat | End


class Feed(Protocol):
    """One subscriber's stream. Used in the event loop's thread only.

    A transport calls `start` once, then `next` until it gives None, then again after `on_ready`.
    `close` is called once, whatever happens, also if `start` was not.

    `is_drained`: nothing follows what `next` gave last, and `on_ready` will be called as if it had
    given None after that. Where many get the same message this saves each of them a call.
    """

    is_drained: bool

    def start(self, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called whenever `next` has something again after it gave None."""

    def next(self) -> Item | None:
        """What to send now; None: nothing yet. After an `End` it is not called again."""

    def close(self) -> None:
        """The client has left, or all is said."""
