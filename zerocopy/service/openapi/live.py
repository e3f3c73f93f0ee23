"""What /openapi.json tells of /api/live: its parameters and its two shapes.

Owns the words and schemas of that endpoint; `openapi.py` puts them into the document.
"""

from __future__ import annotations

from zerocopy.core.layout import U32_MAX
from zerocopy.formats.events import MEDIA_TYPE

LIVE_MEDIA_TYPE = MEDIA_TYPE.decode()

LIVE_FIELDS = ("Cache-Control", "X-Accel-Buffering")
"""Of a stream of events, beside those of any response."""

CURSOR_PATTERN = r"^(19[7-9][0-9]|20[0-6][0-9])[0-9]{4}\.(0|[1-9][0-9]{0,14})$"

LIVE = """\
Every record from the cursor on, each once, in order, over midnight into the next day. What is older
than now comes first. A cursor is the day and the index of the next record among the aligned records
of that day; it means the same on every server with the same files. As server-sent events: `event:
records` with `id`, the cursor behind the records, and in `data` the format `json` in one line; the
stream begins with an `id` alone. The field `Last-Event-ID` wins over `from`, and `from` over
`start`; without any of them the stream begins now. As a WebSocket (RFC 6455, over HTTP/2 RFC 8441)
each message is a whole answer in the format `columns` with `cursor` in its header line; the first
has no records. A day that shrank or was replaced behind the cursor ends the stream: `event: reset`
with a `reason` and the `cursor` at which the day begins, or close code 4001. A symbol or type that
does not exist is 404; a day that does not is waited for."""

LIVE_PARAMETERS: dict[str, object] = {
    "from": {
        "name": "from",
        "in": "query",
        "required": False,
        "description": "A cursor that a live stream gave.",
        "schema": {"type": "string", "pattern": CURSOR_PATTERN, "examples": ["20250131.7"]},
    },
    "liveStart": {
        "name": "start",
        "in": "query",
        "required": False,
        "description": "Begin at the first record that is not older.",
        "schema": {
            "type": "integer",
            "description": "Unix seconds.",
            "minimum": 0,
            "maximum": U32_MAX,
        },
    },
    "maxRate": {
        "name": "max_rate",
        "in": "query",
        "required": False,
        "description": "Messages a second at most; each then holds more records.",
        "schema": {"type": "number", "minimum": 0.1, "maximum": 1000},
    },
}
