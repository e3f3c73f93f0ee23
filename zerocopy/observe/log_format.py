"""The form of a line: an event as JSON, or as words for a terminal.

Owns what makes a line safe to read: every value is cut to a bound and escaped to printable ASCII,
so that what a client sent can neither begin a line, nor steer a terminal, nor push others out. A
line fits into PIPE_BUF bytes: write(2) then mixes it with no line of another process (pipe(7)).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

LINE_BYTES_MAX = 4_096
"""PIPE_BUF of Linux, the line feed included."""

VALUE_CHARS_MAX = 1_024
TRACEBACK_CHARS_MAX = 2_048
ITEMS_MAX = 32
"""What is kept of one value: characters of its beginning, of a traceback's end, and items."""

_WORD = re.compile(r"[!#-<>-~]+")  # printable ASCII without blank, quotation mark and equals sign
_FIRST = ("timestamp", "level", "event")
_LEVEL_COLORS = {"debug": 90, "info": 32, "warning": 33, "error": 31}
"""ANSI: grey, green, yellow, red."""


def json_form(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """One line of JSON, a processor of structlog's."""
    return _fitted(_ordered(event), _json)


def console_form(*, colors: bool) -> Callable[[WrappedLogger, str, EventDict], bytes]:
    """A processor that makes words for people, the lines of a traceback indented below."""

    def words(event: dict[str, Any]) -> str:
        return _words(event, colors=colors)

    def form(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
        return _fitted(_ordered(event), words)

    return form


def _fitted(event: dict[str, Any], render: Callable[[dict[str, Any]], str]) -> bytes:
    """The rendered event with a line feed; its longest values are halved until it fits."""
    event = {name: _bounded(name, value) for name, value in event.items()}
    line = render(event)
    while len(line) >= LINE_BYTES_MAX:
        name = max(event, key=lambda name: len(str(event[name])))
        event[name] = _cut(name, str(event[name]), len(str(event[name])) // 2)
        line = render(event)
    return line.encode("ascii") + b"\n"


def _ordered(event: EventDict) -> dict[str, Any]:
    first = {name: event[name] for name in _FIRST if name in event}
    return {**first, **{name: event[name] for name in event if name not in first}}


def _bounded(name: str, value: object) -> object:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        items = [_bounded(name, item) for item in value[:ITEMS_MAX]]
        return [*items, "..."] if len(value) > ITEMS_MAX else items
    text = value if isinstance(value, str) else repr(value)
    return _cut(name, text, TRACEBACK_CHARS_MAX if name == "exception" else VALUE_CHARS_MAX)


def _cut(name: str, text: str, count: int) -> str:
    if len(text) <= count:
        return text
    # The end of a traceback says what happened, the beginning of anything else what it is.
    return f"...{text[-count:]}" if name == "exception" else f"{text[:count]}..."


def _json(value: object) -> str:
    # DEL is the one control character that json.dumps leaves as it is.
    return json.dumps(value, ensure_ascii=True, default=repr).replace("\x7f", "\\u007f")


def _words(event: dict[str, Any], *, colors: bool) -> str:
    rest = dict(event)
    time, level, name = (str(rest.pop(key, "")) for key in _FIRST)
    trace = str(rest.pop("exception", ""))
    level_word = f"{level:<7}"
    if colors:
        level_word = f"\x1b[{_LEVEL_COLORS.get(level, 0)}m{level_word}\x1b[0m"
    words = [time, level_word, f"{_word(name):<20}"]
    words += [f"{key}={_word(value)}" for key, value in rest.items()]
    line = " ".join(words).rstrip()
    return "\n    | ".join([line, *(_json(part)[1:-1] for part in trace.splitlines())])


def _word(value: object) -> str:
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else _json(value)
    return _json(value)
