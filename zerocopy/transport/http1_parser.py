"""HTTP/1.1 requests out of bytes: httptools, with the limits it does not have.

Owns framing and the checks RFC 9112 asks of a server before a request may be answered. Bytes go in
as they come; `Message` objects come out in order. A head is collected until its empty line, under a
bound, and given to a new httptools parser whole: what comes out cannot depend on how the bytes were
cut, and nothing of one request is left for the next. Content is counted here and dropped.

The first fault ends the parser: it yields one last message that carries the error, and everything
after it is ignored, because nobody can say where the next request would begin.
"""

from __future__ import annotations

import enum
import re
from collections import deque

import httptools

from zerocopy.core.errors import (
    BadRequestError,
    MethodNotAllowedError,
    RequestError,
)
from zerocopy.core.messages import Request, origin_form
from zerocopy.transport.limits import RequestLimits, malformed, unknown_expectation

# RFC 3986 section 3.2.2: reg-name, IPv4 or bracketed literal, and an optional port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.vV]+\])(?::[0-9]*)?")


# RFC 9112 section 3. A method is any token; llhttp knows only those that are registered.
_REQUEST_LINE = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+ [^ \r\n]+ HTTP/1\.([01])\r\n")
_NO_METHOD = re.compile(rb"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_END_OF_HEAD = b"\r\n\r\n"

REQUEST_LINE_REST_BYTES_MAX = 64
"""Bytes of a request line beside its target: no method that is registered takes more."""


class Persistence(enum.IntEnum):
    """What becomes of the connection after the response; indexes the line that says so."""

    KEEP_ALIVE = 0
    KEEP_ALIVE_HTTP_1_0 = 1
    CLOSE = 2


class Message:
    """One parsed request and how its connection goes on, or the error that ends it."""

    __slots__ = ("error", "is_head", "persistence", "request")

    def __init__(
        self,
        request: Request,
        persistence: Persistence,
        error: RequestError | None = None,
    ) -> None:
        self.request = request
        self.is_head = request.method == b"HEAD"
        self.persistence = persistence
        self.error = error


_UNREADABLE = Request(b"GET", b"", ())
_UNREADABLE_HEAD = Request(b"HEAD", b"", ())


class RequestParser:
    """Collects messages; one for each connection that needs it.

    `at_boundary` is True between messages: nothing of a next one has been seen.
    `awaits_continue` is True while a client waits for 100 (Continue) before it sends content.
    `ended` is True once nothing more will be read as a request.
    """

    __slots__ = (
        "_buffer",
        "_content_left",
        "_is_head",
        "_limits",
        "_pending",
        "_searched",
        "at_boundary",
        "awaits_continue",
        "ended",
        "messages",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no end of a head
        self._content_left = 0
        self._is_head = False
        self._pending: Message | None = None  # its content is still to come
        self.messages: deque[Message] = deque()
        self.at_boundary = True
        self.awaits_continue = False
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Parse `data`; complete requests are appended to `messages`."""
        if self.ended:
            return
        self._buffer += data
        try:
            while not self.ended and self._take_content() and self._take_head():
                pass
        except RequestError as error:
            request = _UNREADABLE_HEAD if self._is_head else _UNREADABLE
            self._end(Message(request, Persistence.CLOSE, error))
        self.at_boundary = not self._buffer and self._pending is None

    def end_early(self) -> None:
        """Answer the request whose content is awaited without it, then close."""
        if self._pending is not None:
            self._end(self._pending)

    def _take_content(self) -> bool:
        """Drop what came of the present content; whether all of it came."""
        if self._pending is None:
            return True
        dropped = min(self._content_left, len(self._buffer))
        del self._buffer[:dropped]
        self._content_left -= dropped
        if dropped:
            self.awaits_continue = False
        if self._content_left:
            return False
        self._finish(self._pending)
        return not self.ended

    def _take_head(self) -> bool:
        """Parse the next head; whether there was a whole one."""
        buffer = self._buffer
        if buffer.startswith((b"\r", b"\n")):
            # RFC 9112 section 2.2: empty lines before a request line are ignored.
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        self._is_head = buffer.startswith(b"HEAD ")
        end = buffer.find(_END_OF_HEAD, max(0, self._searched - len(_END_OF_HEAD)))
        head = bytes(buffer[: end + len(_END_OF_HEAD)]) if end >= 0 else b""
        self._check_size(len(head) or len(buffer))
        if not head:
            self._searched = len(buffer)
            _check_beginning(buffer)
            return False
        del buffer[: len(head)]
        self._searched = 0
        self._on_head(_Head(head, self._limits))
        return True

    def _check_size(self, nbytes: int) -> None:
        limits = self._limits
        line_bytes_max = limits.target_bytes_max + REQUEST_LINE_REST_BYTES_MAX
        if nbytes > line_bytes_max and self._buffer.find(b"\r\n", 0, line_bytes_max) < 0:
            raise limits.target_too_long()
        if nbytes > limits.head_bytes_max:
            raise limits.fields_too_large()

    def _on_head(self, head: _Head) -> None:
        message = Message(head.request(), head.persistence())
        length = head.content_bytes()
        if length == 0:
            self._finish(message)
        elif length < 0 or length > self._limits.content_bytes_max:
            # Chunked, or more than is worth reading: the answer does not depend on it.
            self._end(message)
        else:
            self._pending = message
            self._content_left = length
            self.awaits_continue = head.expects_continue and not self._buffer

    def _finish(self, message: Message) -> None:
        """The whole request came."""
        self._pending = None
        self.awaits_continue = False
        if message.persistence is Persistence.CLOSE:
            self._end(message)
        else:
            self.messages.append(message)

    def _end(self, message: Message) -> None:
        """Hand out the last message."""
        message.persistence = Persistence.CLOSE
        self.messages.append(message)
        self._pending = None
        self._buffer.clear()
        self.awaits_continue = False
        self.ended = True


class _Head:
    """One head as httptools reads it; its callbacks and the checks it leaves to others."""

    def __init__(self, head: bytes, limits: RequestLimits) -> None:
        self._limits = limits
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)
        self._keeps_alive = False
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise malformed()
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # RFC 9110 section 7.8: a server may ignore Upgrade
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, RequestError):
                raise
            raise error.__context__ from None
        except httptools.HttpParserInvalidMethodError:
            raise MethodNotAllowedError("the method must be GET, HEAD or OPTIONS") from None
        except httptools.HttpParserError:
            raise malformed() from None
        self._is_1_1 = line[1] == b"1"
        self._check_host()
        self.expects_continue = self._check_expectation()

    def on_url(self, target: bytes) -> None:
        """Take the request target."""
        self._target += target
        if len(self._target) > self._limits.target_bytes_max:
            raise self._limits.target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        limits = self._limits
        if len(name) + len(value) > limits.field_bytes_max or (
            len(self._fields) >= limits.fields_max
        ):
            raise limits.fields_too_large()
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Ask while httptools knows: after the message it has forgotten the fields."""
        self._keeps_alive = self._parser.should_keep_alive()

    def request(self) -> Request:
        """The request, its target in origin-form."""
        return Request(self._parser.get_method(), origin_form(self._target), tuple(self._fields))

    def persistence(self) -> Persistence:
        """RFC 9112 section 9.3."""
        if not self._keeps_alive or self._parser.get_method() == b"CONNECT":
            return Persistence.CLOSE  # what follows a CONNECT is nobody's request
        return Persistence.KEEP_ALIVE if self._is_1_1 else Persistence.KEEP_ALIVE_HTTP_1_0

    def content_bytes(self) -> int:
        """Bytes of content announced; -1 where only reading it would tell."""
        length = 0
        for name, value in self._fields:
            if name == b"transfer-encoding":
                return -1
            if name == b"content-length":
                length = int(value)  # digits: httptools has refused everything else
        return length

    def _check_host(self) -> None:
        """RFC 9112 section 3.2: exactly one valid Host, which HTTP/1.0 may leave out."""
        hosts = [value for name, value in self._fields if name == b"host"]
        if len(hosts) > 1 or (self._is_1_1 and not hosts):
            raise BadRequestError("the request must have exactly one Host field")
        if hosts and _HOST.fullmatch(hosts[0]) is None:
            raise BadRequestError("the Host field must be a host and an optional port")

    def _check_expectation(self) -> bool:
        """RFC 9110 section 10.1.1; HTTP/1.0 clients cannot expect."""
        expectations = [value.lower() for name, value in self._fields if name == b"expect"]
        if any(value != b"100-continue" for value in expectations):
            raise unknown_expectation()
        return bool(expectations) and self._is_1_1


def _check_beginning(buffer: bytearray) -> None:
    """What can never become a head is refused at once, not at a deadline."""
    if buffer and (_NO_METHOD.match(buffer) or _BARE_LF.search(buffer)):
        raise malformed()
