"""Server-sent events read as the standard says (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """What is dispatched; `last_event_id` is what the source has then."""

    kind: str
    data: str
    last_event_id: str


class EventSource:
    """Takes bytes in any pieces; keeps what a browser keeps."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.comments = 0
        self._rest = b""
        self._id = ""
        self._kind, self._data = "", ""

    def feed(self, content: bytes) -> list[Event]:
        """The events that these bytes complete."""
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [event for line in lines if (event := self._line(line.decode())) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self.comments += 1
            case "event":
                self._kind = value
            case "data":
                self._data += value + "\n"
            case "id":
                self._id = value
            case "retry":
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        kind, data, self._kind, self._data = self._kind, self._data, "", ""
        if not data:
            return None
        return Event(kind or "message", data.removesuffix("\n"), self.last_event_id)
