"""What a live stream does, whatever carries it: one state, which `live` drives.

Owns the cursor, what a message or an end means, and when to connect again. It does no input and no
output; `websockets` gives the messages and the errors.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from zerocopy.client.errors import (
    ConnectionFailed,
    Error,
    Reset,
    Timeout,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
)
from zerocopy.client.fetch import (
    FIRST_ATTEMPTS_MAX,
    PATIENCE_S,
    asks_for_more,
    is_final,
    jittered_s,
    refusal_of,
    sentence_of,
)
from zerocopy.client.layout import frame_of

if TYPE_CHECKING:
    from zerocopy.client.frame import Frame
    from zerocopy.client.options import Options

RESET_CODE = 4001
"""The close code of a stream whose day was replaced or became shorter."""

MESSAGE_BYTES_MAX = 1 << 27
"""A server's messages are at most half of it."""

_BEGIN = re.compile(r"(.*); it begins at (\d{8}\.\d+)", re.DOTALL)


class _KeyFilter(logging.Filter):
    """`websockets` logs the fields of a request; this one holds a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told."""
        return not (isinstance(record.args, tuple) and "Authorization" in record.args)


_logger = logging.getLogger("websockets.client.zerocopy")
_logger.addFilter(_KeyFilter())


class Follow:
    """The state of one live stream."""

    __slots__ = ("_attempts", "_options", "_target", "cursor", "is_open")

    def __init__(self, options: Options, target: str, cursor: str | None) -> None:
        self.cursor = cursor
        """Behind the last record that was given; where the next connection begins."""
        self._options = options
        self._target = target
        self.is_open = False
        """Whether the server has told once where the stream begins."""
        self._attempts = 0

    @property
    def url(self) -> str:
        """Where to connect now."""
        origin = self._options.origin.replace("http", "ws", 1)
        tail = "" if self.cursor is None else "&" + urlencode({"from": self.cursor})
        return origin + self._options.prefix + self._target + tail

    @property
    def arguments(self) -> dict[str, Any]:
        """What `websockets.asyncio.client.connect` takes.

        Pings find a dead connection within `timeout_s`. Proxies of the environment are not used.
        """
        timeout_s = self._options.timeout_s
        return {
            "additional_headers": self._options.fields,
            "logger": _logger,
            "ssl": self._options.context,
            "compression": None,
            "proxy": None,
            "open_timeout": timeout_s,
            "ping_interval": timeout_s / 2,
            "ping_timeout": timeout_s / 2,
            "close_timeout": min(timeout_s, 1),
            "max_size": MESSAGE_BYTES_MAX,
            "max_queue": 4,
        }

    def take(self, message: str | bytes) -> Frame | None:
        """The frame of a message; None where it only tells the cursor.

        Raises:
            UnexpectedAnswer: it is none of zerocopy's.
        """
        if isinstance(message, str):
            raise UnexpectedAnswer("the stream sent text; is this a zerocopy server?")
        frame = frame_of(message)
        if frame.cursor is None:
            raise UnexpectedAnswer("a message of the stream has no cursor")
        self.cursor = frame.cursor
        self.is_open = True
        if not len(frame):
            return None
        # Not before: a server that opens streams and ends them at once would be asked in a circle.
        self._attempts = 0
        return frame

    def ended(self, code: int | None, reason: str) -> float:
        """Seconds to wait before the next connection, after an open one has ended.

        Raises:
            Reset: the cursor means nothing any more; it is now the beginning of the day.
            ConnectionFailed: no stream has ever begun.
        """
        if code == RESET_CODE:
            told = _BEGIN.fullmatch(reason)
            if told is not None:
                self.cursor = told[2]
            elif self.cursor is not None:
                self.cursor = self.cursor.partition(".")[0] + ".0"
            why = told[1] if told is not None else reason
            raise Reset(
                f"{why}: drop what you have of that day and iterate on, from {self.cursor}",
                cursor=self.cursor or "",
                reason=why,
            )
        self._attempts += 1
        if not self.is_open and self._attempts >= FIRST_ATTEMPTS_MAX:
            raise ConnectionFailed(f"{self._options.origin} ends each stream before it begins")
        return 0.0 if self._attempts == 1 else jittered_s(self._attempts - 1)

    def refused(self, error: Exception) -> float:
        """Seconds to wait before the next attempt to connect.

        Raises:
            Error: waiting would not help, or the server was never reached.
        """
        found = self._error_of(error)
        self._attempts += 1
        passes = isinstance(found, (ConnectionFailed, Unavailable, TooManyRequests))
        passes = passes and not asks_for_more(found, self._options.timeout_s)
        asked_s = getattr(found, "retry_after_s", None) or 0.0
        is_hopeless = not self.is_open and (
            self._attempts >= FIRST_ATTEMPTS_MAX or asked_s > PATIENCE_S
        )
        if not passes or is_hopeless or is_final(found):
            raise found from found.__cause__
        return jittered_s(self._attempts) + asked_s

    def _error_of(self, error: Exception) -> Error:
        response = getattr(error, "response", None)  # of websockets' InvalidStatus
        if response is not None:
            return refusal_of(
                self._options,
                response.status_code,
                response.reason_phrase,
                response.headers.raw_items(),
                response.body or b"",
            )
        found: ConnectionFailed
        if isinstance(error, TimeoutError):
            found = Timeout(
                f"{self._options.origin} did not answer within {self._options.timeout_s:g} s"
            )
        else:
            found = ConnectionFailed(sentence_of(self._options, error))
        found.__cause__ = error
        return found
