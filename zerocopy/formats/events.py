"""Server-sent events: what a live stream says to an EventSource.

Owns their spelling (WHATWG HTML, section 9.2). An event is lines `field: value` and an empty line,
which commits the `id` even where there is no data. No value here holds a line break: cursors are
digits, JSON has none outside of text and escapes those inside.
"""

from __future__ import annotations

import orjson

MEDIA_TYPE = b"text/event-stream"

RETRY_MS = 1_000
"""After how long a browser asks again once the stream has ended: a worker is replaced at once."""


def opening(cursor: str) -> bytes:
    r"""The beginning of a stream: when to ask again, and from where.

    Example:
        >>> opening("20250131.7")
        b'retry: 1000\nid: 20250131.7\n\n'
    """
    return b"retry: %d\nid: %b\n\n" % (RETRY_MS, cursor.encode())


def records(cursor: str, document: bytes) -> bytes:
    r"""New records as one line of JSON, and the cursor behind them.

    Example:
        >>> records("20250131.8", b"{}")
        b'event: records\nid: 20250131.8\ndata: {}\n\n'
    """
    return b"event: records\nid: %b\ndata: %b\n\n" % (cursor.encode(), document)


def reset(cursor: str, reason: str) -> bytes:
    """What was sent of the day of `cursor` is no longer what the files hold; it begins there.

    As an id too: a browser that asks again gets the day anew, and not the same reset.
    """
    told = orjson.dumps({"reason": reason, "cursor": cursor})
    return b"event: reset\nid: %b\ndata: %b\n\n" % (cursor.encode(), told)
