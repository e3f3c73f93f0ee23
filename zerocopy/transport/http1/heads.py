"""Request heads that were seen before: the same bytes are the same request.

Owns a bounded number of heads and what the parser made of them, so that a head which comes again
between two messages need not be parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zerocopy.transport.http1.parser import Message

HEADS_MAX = 1_024
HEAD_BYTES_MAX = 2_048
HEAD_FIELDS_MAX = 32
"""Heads remembered, and how long one may be: about 8 MiB at the very most."""


class KnownHeads(dict[bytes, "Message"]):
    """By their bytes: what was read at once, from one message boundary to the next."""

    network = b""

    def remember(self, head: bytes, message: Message) -> None:
        """Keep what these bytes mean; at the bound the oldest head is forgotten.

        Does not keep heads with Range or CF-Ray, nor those that open a WebSocket, with a key for
        each. They rarely repeat, and would evict heads that do.
        """
        request = message.request
        if message.handshake is not None:
            return
        if len(head) > HEAD_BYTES_MAX or len(request.fields) > HEAD_FIELDS_MAX:
            return
        if request.is_conditional and request.values(b"range"):
            return
        if request.values(b"cf-ray"):
            return
        if len(self) >= HEADS_MAX and head not in self:
            del self[next(iter(self))]
        self[head] = message

    def of(self, network: bytes) -> Heads:
        """Those of the connections of one network; all share the bound."""
        return _HeadsOfNetwork(self, network) if network else self


class Heads(Protocol):
    """Heads that a connection may find again; see `KnownHeads`. `network` is as in `Request`."""

    network: bytes

    def get(self, head: bytes, /) -> Message | None:
        """What was made of these bytes."""

    def remember(self, head: bytes, message: Message) -> None:
        """Keep what these bytes mean."""


class _HeadsOfNetwork:
    """The same bytes of two networks are two requests."""

    __slots__ = ("_heads", "_prefix", "network")

    def __init__(self, heads: KnownHeads, network: bytes) -> None:
        self._heads = heads
        self._prefix = bytes((len(network),)) + network
        self.network = network

    def get(self, head: bytes, /) -> Message | None:
        return self._heads.get(self._prefix + head)

    def remember(self, head: bytes, message: Message) -> None:
        self._heads.remember(self._prefix + head, message)
