"""100 (Continue), RFC 9110 section 10.1.1: what a client may wait for before it sends content."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.transport.channel import Channel
    from zerocopy.transport.http1.parser import RequestParser

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer_continue(
    parser: RequestParser, send: Callable[[bytes], int], channel: Channel, *, is_first: bool
) -> bool:
    """Send it, or have the request answered without its content.

    `is_first`: no earlier response is still to come, so that it may be sent. Returns False if a
    part of it has left: nothing can follow.
    """
    sent = 0
    if is_first:
        with contextlib.suppress(OSError):  # full of earlier responses, or the peer is gone
            sent = send(_CONTINUE)
    if sent == len(_CONTINUE):
        parser.awaits_continue = False
    elif sent == 0 and not channel.retry_bytes:
        parser.end_early()
    else:
        return False
    return True
