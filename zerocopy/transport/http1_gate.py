"""HTTP/1.1 over TLS: h11 behind the same reader of heads as the plain path.

Owns what h11 gets to see. A head is judged by `http1_request` first, and given to h11 only as far
as h11 has to know it; its content follows by the byte, so no byte of a next request goes with it.
What h11 would let pass (a list of lengths, folded lines, bare LF, a version without Host) never
comes to it, and both listeners refuse the same with the same status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11

from zerocopy.core.errors import RequestError
from zerocopy.transport.http1_request import CHUNKED, RequestReader

if TYPE_CHECKING:
    from zerocopy.transport.http1_request import RequestHead
    from zerocopy.transport.limits import RequestLimits

_NOT_FOR_H11 = frozenset({b"upgrade", b"proxy-connection"})
"""Ignored, RFC 9110 section 7.8; h11 would wait whether the protocol is switched."""

_OVER = frozenset({h11.MUST_CLOSE, h11.CLOSED, h11.ERROR})


class GatedConnection(h11.Connection):
    """The server's end of a connection; `fault` is why it reads no further.

    `closes_after` says that the connection ends with the present answer, whatever h11 finds, and
    `is_head` that the request is, or seems to be, a HEAD.
    """

    def __init__(self, limits: RequestLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._incoming = RequestReader(limits)
        self._content_max = limits.content_bytes_max
        self._content_left = 0
        self._is_at_end = False
        self.closes_after = False
        self.fault: RequestError | None = None

    @property
    def is_head(self) -> bool:
        """Whether the head that cannot be read begins as one of HEAD."""
        return self._incoming.is_head

    @property
    def is_mid_head(self) -> bool:
        """Whether a head has begun, the end of which is still to come."""
        return (
            self.their_state is h11.IDLE
            and self.fault is None
            and not self._incoming.is_at_boundary
        )

    def receive_data(self, data: bytes) -> None:
        """Keep what came until its turn; an empty `data` is the end of the input."""
        if not data:
            self._is_at_end = True
        elif self.fault is None and self.their_state not in _OVER:
            self._incoming.feed(data)

    def next_event(self) -> Any:
        """What h11 makes of the next head or of content.

        Raises:
            h11.RemoteProtocolError: there is a `fault`, or h11 finds one.
        """
        state = self.their_state
        if state is h11.IDLE:
            if not self._pass_head() and self._is_at_end:
                self._incoming.clear()  # a part of a head is no request
        elif state is h11.SEND_BODY:
            self._pass_content()
        elif state in _OVER:
            self._incoming.clear()  # nobody will answer it: RFC 9112 section 9.6
        elif self._incoming:
            return h11.PAUSED
        if self._is_at_end and not self._incoming:
            super().receive_data(b"")
        return super().next_event()

    def _pass_head(self) -> bool:
        try:
            if self.fault is not None:
                raise self.fault
            head = self._incoming.take()
        except RequestError as error:
            self.fault = error
            raise h11.RemoteProtocolError(error.detail, error.status) from None
        if head is None:
            return False
        length = self._content_left = head.content_bytes
        self.closes_after = not head.keeps_alive or length == CHUNKED
        is_awaited = length != 0 and length <= self._content_max and not self._incoming
        super().receive_data(_rendered(head, can_continue=is_awaited))
        return True

    def _pass_content(self) -> None:
        # What follows chunks is never answered, so they need not be counted.
        count = len(self._incoming) if self._content_left == CHUNKED else self._content_left
        data = self._incoming.read(count)
        if data:
            super().receive_data(data)
        if self._content_left != CHUNKED:
            self._content_left -= len(data)


def _rendered(head: RequestHead, *, can_continue: bool) -> bytes:
    """The head for h11: its target in origin-form, its version one of two."""
    lines = [b"%s %s HTTP/1.%d" % (head.method, head.target, head.is_1_1)]
    lines += [
        b"%s: %s" % (name, value)
        for name, value in head.fields
        if name not in _NOT_FOR_H11 and (can_continue or name != b"expect")
    ]
    return b"\r\n".join([*lines, b"", b""])
