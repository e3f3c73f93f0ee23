"""One HTTP/1.1 request head: where it ends in a stream of bytes, and what it says.

Owns the grammar of RFC 9112 and of the fields that framing depends on. httptools reads a head. The
checks here refuse what it leaves open, so that no proxy in front of the server can have read it in
another way.

A head is judged whole. Errors before its end are found in the order of the bytes, so that no
verdict depends on how the bytes were cut.
"""

from __future__ import annotations

import re

import httptools

from zerocopy.core.errors import (
    BadRequestError,
    UnknownCodingError,
    UnknownVersionError,
)
from zerocopy.core.http.authority import is_authority
from zerocopy.core.http.messages import origin_form
from zerocopy.transport.limits import (
    RequestLimits,
    invalid_host,
    is_continue_alone,
    malformed,
    target_fault,
    unknown_expectation,
)
from zerocopy.transport.websocket.opening import Handshake, asks_for_websocket

REQUEST_LINE_REST_BYTES_MAX = 64
"""Bytes of a request line beside its target: no method that is registered takes more."""

EMPTY_LINES_MAX = 8
"""Empty lines ignored before a request line; RFC 9112 section 2.2 asks for one."""

CONTENT_LENGTH_MAX = 2**63 - 1
"""What every other program on the way can count, too."""

CHUNKED = -1
"""The length of content that only reading it would tell."""

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
_LINE = (
    rb"(?P<method>" + _TOKEN + rb") (?P<target>[!-~\x80-\xff]++) "
    rb"HTTP/(?P<major>[0-9])\.(?P<minor>[0-9])\r\n"
)
_REQUEST_LINE = re.compile(_LINE)
# RFC 9112 section 5: no blank before the colon, no line that goes on with a blank, no control.
_HEAD = re.compile(_LINE + rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*+\r\n)*+\r\n")
_NO_METHOD = re.compile(rb"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_END_OF_HEAD = b"\r\n\r\n"

_KNOWN_TO_HTTPTOOLS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"}
)
_JUDGED = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
)


class RequestHead:
    """One head: its request, and how its content and its connection go on.

    `content_bytes` is the length of its content, or `CHUNKED`. `keeps_alive` says whether the
    connection may go on after the response, `is_1_1` whether the minor version is at least 1.
    `handshake` is None unless the client asks to go on with a WebSocket.
    """

    __slots__ = (
        "content_bytes",
        "expects_continue",
        "fields",
        "handshake",
        "is_1_1",
        "keeps_alive",
        "method",
        "target",
    )

    def __init__(self, head: bytes, line: re.Match[bytes], limits: RequestLimits) -> None:
        self.method, target, _, minor = line.groups()
        if len(target) > limits.target_bytes_max:
            raise limits.target_too_long()
        self.is_1_1 = minor != b"0"
        self.fields: list[tuple[bytes, bytes]] = []
        self._read(head, line)
        if len(self.fields) > limits.fields_max or (
            len(head) > limits.field_bytes_max
            and any(len(name) + len(value) > limits.field_bytes_max for name, value in self.fields)
        ):
            raise limits.fields_too_large()
        self.target = target
        if (
            target[:1] != b"/"
            or b"#" in target
            or not target.isascii()
            or self.method == b"CONNECT"
        ):
            self._resolve_target()
        judged: dict[bytes, list[bytes]] = {}
        for name, value in self.fields:
            if name in _JUDGED:
                judged.setdefault(name, []).append(value)
        _check_host(judged.get(b"host", []), is_required=self.is_1_1)
        self.content_bytes = self._content_bytes(judged)
        self.keeps_alive = self._keeps_alive(judged.get(b"connection"))
        self.expects_continue = self._expects_continue(judged.get(b"expect"))
        self.handshake: Handshake | None = None
        upgrades = judged.get(b"upgrade")  # RFC 9110 section 7.8: ignored in HTTP/1.0
        if upgrades is not None and self.is_1_1 and asks_for_websocket(self.method, upgrades):
            self.handshake = Handshake(self.fields, has_content=self.content_bytes != 0)

    def _resolve_target(self) -> None:
        """RFC 9112 section 3.2; the grammar leaves nothing else to ask of an origin-form."""
        self.target = origin_form(self.target, self.method)
        fault = target_fault(self.method, self.target)
        if fault is not None:
            raise fault

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; httptools calls it."""
        self.fields.append((name.lower(), value.strip(b" \t")))

    def _read(self, head: bytes, line: re.Match[bytes]) -> None:
        try:
            httptools.HttpRequestParser(self).feed_data(_as_httptools_knows_it(head, line))
        except httptools.HttpParserUpgrade:
            pass  # whether it is heeded, the response says
        except httptools.HttpParserCallbackError:
            raise  # `on_header` failed, a fault of ours: the next clause would blame the client
        except httptools.HttpParserError:
            raise malformed() from None

    def _content_bytes(self, judged: dict[bytes, list[bytes]]) -> int:
        """RFC 9112 section 6.3. Refuses lengths that another recipient could read differently."""
        lengths, codings = judged.get(b"content-length"), judged.get(b"transfer-encoding")
        if codings is not None:
            if lengths is not None or not self.is_1_1:
                raise BadRequestError("the request must have one length that HTTP/1.1 knows")
            return _check_codings(codings)
        if lengths is None:
            return 0
        if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
            raise BadRequestError("Content-Length must be given once, in digits only")
        length = int(lengths[0])
        if length > CONTENT_LENGTH_MAX:
            raise BadRequestError(f"Content-Length must be at most {CONTENT_LENGTH_MAX}")
        return length

    def _keeps_alive(self, connection: list[bytes] | None) -> bool:
        """RFC 9112 section 9.3: `close` wins, whatever else the options say."""
        if self.method == b"CONNECT":
            return False  # what follows a CONNECT is nobody's request
        if connection is None:
            return self.is_1_1
        options = {option.strip(b" \t") for option in b",".join(connection).lower().split(b",")}
        return b"close" not in options and (self.is_1_1 or b"keep-alive" in options)

    def _expects_continue(self, expectations: list[bytes] | None) -> bool:
        """RFC 9110 section 10.1.1; HTTP/1.0 clients cannot expect."""
        if expectations is None:
            return False
        if not is_continue_alone(expectations):
            raise unknown_expectation()
        return self.is_1_1 and any(expectations)


class RequestReader:
    """Cuts a stream of bytes into heads and what follows them.

    `is_head` tells of the method of the head that is being read, for an error amid it.
    """

    __slots__ = ("_buffer", "_empty_lines", "_limits", "_line_is_read", "_searched", "is_head")

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no end of a head, and no bare LF
        self._line_is_read = False
        self._empty_lines = 0
        self.is_head = False

    def __len__(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._buffer)

    @property
    def is_at_boundary(self) -> bool:
        """Whether the next byte begins a request; not after too many empty lines, to count them."""
        return not self._buffer and self._empty_lines < EMPTY_LINES_MAX

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._buffer += data

    def skip(self, count: int) -> int:
        """Drop at most `count` of the bytes that follow a head. Returns how many were there."""
        count = min(count, len(self._buffer))
        del self._buffer[:count]
        return count

    def read(self, count: int) -> bytes:
        """Take at most `count` of the bytes that follow a head."""
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def clear(self) -> None:
        """Drop everything."""
        self._buffer.clear()

    def take(self) -> RequestHead | None:
        """The next head, or None while it is not there in full.

        Raises:
            RequestError: there is none; it is unknown where the next request would begin.
        """
        buffer = self._buffer
        if buffer.startswith(b"\r"):
            self._skip_empty_lines()
        self.is_head = buffer.startswith(b"HEAD ")
        end = buffer.find(_END_OF_HEAD, max(0, self._searched - len(_END_OF_HEAD)))
        nbytes = end + len(_END_OF_HEAD) if end >= 0 else len(buffer)
        head = bytes(buffer[:nbytes]) if end >= 0 else b""
        match = _HEAD.match(head)
        may_be_refused = (
            match is None or nbytes > self._limits.target_bytes_max or match["major"] != b"1"
        )
        if may_be_refused:
            self._check_beginning(nbytes)
        if end < 0:
            self._searched = nbytes
            return None
        if match is None:
            raise malformed()
        del buffer[:nbytes]
        self._searched = self._empty_lines = 0
        self._line_is_read = False
        return RequestHead(head, match, self._limits)

    def _skip_empty_lines(self) -> None:
        """RFC 9112 section 2.2: an empty line before a request line is ignored."""
        self.is_head = False
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._empty_lines += 1
            if self._empty_lines > EMPTY_LINES_MAX:
                raise malformed()
        if buffer.startswith(b"\r") and len(buffer) > 1:
            raise malformed()

    def _check_beginning(self, nbytes: int) -> None:
        """Refuse what can never become a head, by the first byte that makes it so."""
        buffer, limits = self._buffer, self._limits
        if buffer == b"\r" or not buffer:
            return
        if _NO_METHOD.match(buffer):
            raise malformed()
        searched = max(0, self._searched - 1)
        lf = _BARE_LF.search(buffer, searched, nbytes)
        lf_at = lf.start() if lf is not None else limits.head_bytes_max
        if not self._line_is_read:
            line_max = limits.target_bytes_max + REQUEST_LINE_REST_BYTES_MAX
            most = min(line_max, limits.head_bytes_max)
            line_end = buffer.find(b"\r\n", searched, min(most, nbytes))
            if lf_at < (line_end if line_end >= 0 else most):
                raise malformed()
            if line_end >= 0:
                _check_line(buffer)
                self._line_is_read = True
            elif nbytes > line_max <= limits.head_bytes_max:
                raise limits.target_too_long()
        if lf_at < limits.head_bytes_max:
            raise malformed()
        if nbytes > limits.head_bytes_max:
            raise limits.fields_too_large()


def _as_httptools_knows_it(head: bytes, line: re.Match[bytes]) -> bytes:
    """Replace a minor version and a method that httptools refuses; `head` begins with `line`.

    The version first: `line` has offsets into the head that was read, and another method moves all
    that follows it.
    """
    if line["minor"] > b"1":
        # RFC 9110 section 2.5: processed as the highest minor version that is known.
        head = head[: line.start("minor")] + b"1" + head[line.end("minor") :]
    if line["method"] not in _KNOWN_TO_HTTPTOOLS:
        # A method is any token (RFC 9110 section 9.1); whether it is allowed, the path says.
        head = b"POST" + head[line.end("method") :]
    return head


def _check_line(head: bytearray) -> None:
    line = _REQUEST_LINE.match(head)
    if line is None or line["major"] == b"0":
        raise malformed()
    if line["major"] != b"1":
        raise UnknownVersionError("the server knows HTTP/1.1 here, and HTTP/1.0")


def _check_host(hosts: list[bytes], *, is_required: bool) -> None:
    """RFC 9112 section 3.2: exactly one valid Host, which HTTP/1.0 may leave out."""
    if len(hosts) > 1 or (is_required and not hosts):
        raise BadRequestError("the request must have exactly one Host field")
    # Empty where the client's URI has no authority: RFC 9110 section 7.2.
    if hosts and hosts[0] and not is_authority(hosts[0]):
        raise invalid_host()


def _check_codings(values: list[bytes]) -> int:
    """RFC 9112 sections 6.1 and 7: chunked alone can be read, and nothing may follow it."""
    codings = [coding.strip(b" \t") for coding in b",".join(values).lower().split(b",")]
    if codings == [b"chunked"]:
        return CHUNKED
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or b"" in codings:
        raise BadRequestError("the last transfer coding must be chunked, once")
    raise UnknownCodingError("the only transfer coding that the server knows is chunked")
