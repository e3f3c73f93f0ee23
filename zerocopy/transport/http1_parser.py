"""HTTP/1.1 requests out of bytes: httptools, with the limits it does not have.

Owns framing and the checks RFC 9112 asks of a server before a request may be answered. Bytes go in
as they come; `Message` objects come out in order. The first fault ends the parser: it yields one
last message that carries the error, and everything after it is ignored, because nobody can say
where the next request would begin.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from dataclasses import dataclass

import httptools

from zerocopy.core.errors import (
    BadRequestError,
    ExpectationFailedError,
    FieldsTooLargeError,
    MethodNotAllowedError,
    RequestError,
    TargetTooLongError,
)
from zerocopy.core.messages import Request

# RFC 3986 section 3.2.2: reg-name, IPv4 or bracketed literal, and an optional port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.vV]+\])(?::[0-9]*)?")
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


class Persistence(enum.IntEnum):
    """What becomes of the connection after the response; indexes the line that says so."""

    KEEP_ALIVE = 0
    KEEP_ALIVE_HTTP_1_0 = 1
    CLOSE = 2


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """Bounds on one request head and its content, in bytes or as counts."""

    target_bytes_max: int
    field_bytes_max: int
    head_bytes_max: int
    fields_max: int
    content_bytes_max: int


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


# RFC 9110 section 9.1: a method is any token; llhttp knows only those that are registered.
_REQUEST_LINE = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_UNREADABLE = Request(b"GET", b"", ())


class RequestParser:
    """Feeds httptools and collects messages; one for each connection that needs it.

    `at_boundary` is True between messages: nothing of a next one has been seen.
    `awaits_continue` is True while a client waits for 100 (Continue) before it sends content.
    """

    __slots__ = (
        "_content_bytes",
        "_fields",
        "_fields_bytes",
        "_head_bytes",
        "_host",
        "_in_head",
        "_limits",
        "_parser",
        "_persistence",
        "_target",
        "at_boundary",
        "awaits_continue",
        "ended",
        "messages",
    )

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self.messages: deque[Message] = deque()
        self.at_boundary = True
        self.awaits_continue = False
        self.ended = False
        self._head_bytes = 0
        self.on_message_begin()
        self.at_boundary = True

    def feed(self, data: bytes) -> None:
        """Parse `data`; complete requests are appended to `messages`."""
        # What was seen of this head before; bytes of a whole head in `data` are counted below by
        # the callbacks, so this only has to stop a head that never ends.
        self._head_bytes += len(data)
        try:
            while not self.ended:
                try:
                    self._parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    # RFC 9110 section 7.8: a server may ignore Upgrade. The message is complete;
                    # what follows it is HTTP/1.1 still.
                    self._parser = httptools.HttpRequestParser(self)
                    data = data[upgrade.args[0] :]
                    if data:
                        continue
                break
            if self._in_head and self._head_bytes > self._limits.head_bytes_max:
                raise self._too_large()
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, RequestError):
                raise
            self._fail(cause)
        except httptools.HttpParserInvalidMethodError:
            self._fail(_refuse_method(data))
        except httptools.HttpParserError:
            self._fail(_malformed())
        except RequestError as error:
            self._fail(error)

    def on_message_begin(self) -> None:
        """Start a request: httptools saw its first byte."""
        self.at_boundary = False
        self._in_head = True
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._fields_bytes = 0
        self._host: bytes | None = None
        self._content_bytes = 0
        self._persistence = Persistence.CLOSE

    def on_url(self, fragment: bytes) -> None:
        """Collect the request target, which comes in pieces when its bytes do."""
        self._target += fragment
        if len(self._target) > self._limits.target_bytes_max:
            raise TargetTooLongError(
                f"the request target must be at most {self._limits.target_bytes_max} bytes"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        nbytes = len(name) + len(value)
        self._fields_bytes += nbytes
        if (
            nbytes > self._limits.field_bytes_max
            or self._fields_bytes > self._limits.head_bytes_max
            or len(self._fields) >= self._limits.fields_max
        ):
            raise self._too_large()
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Check the head; decide how the connection goes on."""
        self._in_head = False
        self._head_bytes = 0
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadRequestError("the protocol must be HTTP/1.1 or HTTP/1.0")
        self._check_host(required=version == "1.1")
        if self._parser.should_keep_alive():
            self._persistence = (
                Persistence.KEEP_ALIVE if version == "1.1" else Persistence.KEEP_ALIVE_HTTP_1_0
            )
        declared_bytes = self._declared_content()
        self._check_expectation(has_content=declared_bytes != 0)
        if declared_bytes > self._limits.content_bytes_max:
            self._end()

    def on_body(self, data: bytes) -> None:
        """Drop content: no method here gives it a meaning; past the bound, stop reading."""
        self._content_bytes += len(data)
        self.awaits_continue = False
        if not self.ended and self._content_bytes > self._limits.content_bytes_max:
            self._end()

    def on_message_complete(self) -> None:
        """Hand out the request."""
        if not self.ended:
            self.messages.append(self._message())
            self.ended = self._persistence is Persistence.CLOSE
        self.awaits_continue = False
        self.at_boundary = True
        self._head_bytes = 0

    def end_early(self) -> None:
        """Answer the request being read without its content, then close."""
        if not self.ended:
            self._end()

    def _end(self) -> None:
        self._persistence = Persistence.CLOSE
        self.messages.append(self._message())
        self.awaits_continue = False
        self.ended = True

    def _message(self) -> Message:
        request = Request(self._parser.get_method(), self._origin_form(), tuple(self._fields))
        return Message(request, self._persistence)

    def _fail(self, error: RequestError) -> None:
        if not self.ended:
            self.messages.append(Message(_UNREADABLE, Persistence.CLOSE, error))
            self.ended = True

    def _too_large(self) -> RequestError:
        limits = self._limits
        return FieldsTooLargeError(
            f"the request may hold at most {limits.fields_max} fields, {limits.field_bytes_max} "
            f"bytes in one and {limits.head_bytes_max} bytes in all"
        )

    def _check_host(self, *, required: bool) -> None:
        """RFC 9112 section 3.2: exactly one valid Host, which HTTP/1.0 may leave out."""
        hosts = [value for name, value in self._fields if name == b"host"]
        if len(hosts) > 1 or (required and not hosts):
            raise BadRequestError("the request must have exactly one Host field")
        if hosts and _HOST.fullmatch(hosts[0]) is None:
            raise BadRequestError("the Host field must be a host and an optional port")

    def _declared_content(self) -> int:
        """Bytes of content announced; -1 where it is chunked, whose end is found by reading."""
        length = 0
        for name, value in self._fields:
            if name == b"transfer-encoding":
                return -1
            if name == b"content-length":
                length = int(value)  # digits: httptools has refused everything else
        return length

    def _check_expectation(self, *, has_content: bool) -> None:
        """RFC 9110 section 10.1.1; HTTP/1.0 clients cannot expect."""
        for name, value in self._fields:
            if name == b"expect":
                if value.lower() != b"100-continue":
                    raise ExpectationFailedError("the Expect field may only ask for 100-continue")
                self.awaits_continue = has_content and self._parser.get_http_version() == "1.1"

    def _origin_form(self) -> bytes:
        """The target in origin-form; a server must accept absolute-form (RFC 9112, 3.2.2)."""
        absolute = _ABSOLUTE_FORM.fullmatch(self._target)
        if absolute is None:
            return self._target
        path = absolute[2]
        return path if path.startswith(b"/") else b"/" + path


def _refuse_method(data: bytes) -> RequestError:
    """A method nobody registered is one more that is not allowed; anything else is no HTTP."""
    if _REQUEST_LINE.match(data):
        return MethodNotAllowedError("the method must be GET, HEAD or OPTIONS")
    return _malformed()


def _malformed() -> RequestError:
    return BadRequestError("the request is not HTTP/1.1 as RFC 9112 defines it")
