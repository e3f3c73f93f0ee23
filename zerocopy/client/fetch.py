"""One GET, until its body is there: retried, resumed, or begun anew.

Owns which errors pass, how long to wait for it, and that no body is ever joined from two states of
the data. What is read goes to a sink.

- Only GET is sent, so a request may always be sent again.
- A body that broke is resumed by `Range` and `If-Range` with its strong ETag (RFC 9110, 13.1.5 and
  14.2). A 200 instead of a 206 says that the data has changed, or that ranges are not served: the
  body begins anew.
- The wait is doubled each time, with jitter; `Retry-After` (10.2.3) is honoured in both forms. A
  limit (429) that asks for more than the client's `timeout` is told instead.
- `ATTEMPTS_MAX` and `PATIENCE_S` bound what fails in a row without a new byte. A server that was
  never reached is given up after `FIRST_ATTEMPTS_MAX`: the address is likely wrong.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, TypeVar

from zerocopy.client.errors import (
    ChangedData,
    ConnectionFailed,
    Error,
    Interrupted,
    RateLimit,
    Timeout,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    error_of,
)
from zerocopy.client.pool import Pool
from zerocopy.client.response import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from http.client import HTTPConnection

    from zerocopy.client.options import Options
    from zerocopy.client.requests import Call
    from zerocopy.client.sinks import Sink
    from zerocopy.client.stop import Stop

ATTEMPTS_MAX = 20
FIRST_ATTEMPTS_MAX = 3
PATIENCE_S = 60.0
"""Since the last byte, waits and attempts included."""

RESTARTS_MAX = 3
"""Of one body, because the data changed."""

WAIT_S, WAIT_MAX_S = 0.1, 2.0
"""The first wait at most, and any."""

USER_AGENT = "zerocopy-python"

PROBLEM_BYTES_MAX = 1 << 16
TEXT_MAX = 200
"""Characters of a refusal in plain text that are repeated; longer ones are pages."""

Result = TypeVar("Result")

_LIMIT = re.compile(r'"((?:[^"\\]|\\.)*)"((?: *; *[a-z]+=[^;,]*)*)')
"""One of the list that `RateLimit` and `RateLimit-Policy` are: a string, parameters (RFC 9651)."""

_PARAMETER = re.compile(r"([a-z]+)=(\d{1,15})")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Fetcher:
    """Gets bodies from one server. Safe to use from any number of threads."""

    __slots__ = ("_has_met", "_options", "_pool")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pool = Pool(options)
        self._has_met = False  # the server has answered once

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def run(self, call: Call[Result], stop: Stop) -> Result:
        """The result of a call, retried and resumed; `stop` ends it from another thread.

        Raises:
            Error: what the server said, or what the connection did, in the end.
        """
        with call.held:
            self.fetch(call.target, call.sink, stop)
            return call.result()

    def fetch(self, target: str, sink: Sink, stop: Stop) -> None:
        """Get the body at `target`, a path with a query, into `sink`.

        Raises:
            Error: what the server said, or what the connection did, in the end.
        """
        patience = Patience()
        restarts = Restarts()
        while True:
            try:
                self._attempt(target, sink, restarts, stop)
            except (ConnectionFailed, Unavailable, TooManyRequests) as error:
                stop.check()
                wait_s = patience.wait_s(error, sink.received, has_met=self._has_met)
                if wait_s is None or asks_for_more(error, self._options.timeout_s):
                    raise
                stop.pause(wait_s)
            else:
                return

    def _attempt(self, target: str, sink: Sink, restarts: Restarts, stop: Stop) -> None:
        connection = self._pool.take()
        try:
            response = self._ask(connection, target, sink, stop)
            self._has_met = True
            refusal = self._receive(response, sink, restarts)
            if not response.isclosed():  # something is left of a long refusal
                connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            stop.attach(None)
        self._pool.give(connection)
        if refusal is not None:
            raise refusal

    def _ask(self, connection: HTTPConnection, target: str, sink: Sink, stop: Stop) -> Response:
        fields = {"User-Agent": USER_AGENT, **self._options.fields}
        if sink.received and sink.tag is not None:
            fields |= {"Range": f"bytes={sink.received}-", "If-Range": sink.tag}
        is_kept = connection.sock is not None
        try:
            if not is_kept:
                connection.connect()
            stop.attach(connection.sock)
            connection.request("GET", self._options.prefix + target, headers=fields)
            response = connection.getresponse()
        except TimeoutError as error:
            raise Timeout(
                f"{self._options.origin} did not answer within {self._options.timeout_s:g} s"
            ) from error
        except (OSError, HTTPException) as error:
            if is_kept and isinstance(error, ConnectionError):
                # The server closed it as the request left (RFC 9112, 9.3.1): that is no failure.
                connection.close()
                return self._ask(connection, target, sink, stop)
            raise ConnectionFailed(sentence_of(self._options, error)) from error
        assert isinstance(response, Response), "the pool makes no others"
        return response

    def _receive(self, response: Response, sink: Sink, restarts: Restarts) -> Error | None:
        """Take the body, or return what the server refuses with."""
        try:
            if response.length is None and not response.chunked and not response.peek(1):
                raise IncompleteRead(b"")  # http.client takes a head that breaks off for a whole
            match response.status:
                case HTTPStatus.OK:
                    tag = _strong_tag(response)
                    if sink.received and sink.tag not in {None, tag}:
                        restarts.count()
                    sink.restart(tag)
                case HTTPStatus.PARTIAL_CONTENT:
                    check_part(response, sink)
                case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if sink.received:
                    # All of the body has come but the end of its framing.
                    restarts.count()
                    sink.restart(None)
                    raise Interrupted(f"{self._options.origin} has no rest of the answer")
                case status:
                    content = response.read(PROBLEM_BYTES_MAX)
                    told = response.getheaders()
                    return refusal_of(self._options, status, response.reason, told, content)
            sink.take(response)
        except TimeoutError as error:
            raise Timeout(
                f"{self._options.origin} sent nothing for {self._options.timeout_s:g} s, "
                f"{sink.received:,} bytes into the answer"
            ) from error
        except (OSError, HTTPException) as error:
            if isinstance(error, Error):
                raise
            raise Interrupted(
                f"the connection to {self._options.origin} broke {sink.received:,} bytes into "
                "the answer"
            ) from error
        return None


class Restarts:
    """How often a body began anew because the data had changed."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times = 0

    def count(self) -> None:
        """Count one; raise ChangedData where it is one too many."""
        self._times += 1
        if self._times > RESTARTS_MAX:
            raise ChangedData(
                f"the data changed {self._times} times while it was fetched: ask for less of it, "
                "or for days that are closed"
            )


def check_part(response: Response, sink: Sink) -> None:
    """Raise UnexpectedAnswer unless a 206 is the rest of what has come."""
    told = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range", ""))
    first, last, total = map(int, told.groups()) if told else (-1, -1, -1)
    is_same = response.getheader("ETag", sink.tag) == sink.tag
    if not sink.received or first != sink.received or last + 1 != total or not is_same:
        raise UnexpectedAnswer(
            "the server resumed the answer at another place than it was asked for",
            status=response.status,
        )


class Patience:
    """Whether to try again after an error, and when."""

    __slots__ = ("_attempts", "_begun_s", "_most")

    def __init__(self) -> None:
        self._attempts = 0
        self._begun_s = time.monotonic()
        self._most = 0

    def wait_s(self, error: Error, received: int, *, has_met: bool) -> float | None:
        """Seconds to wait before the next attempt; None: give up."""
        if received > self._most:
            self._most, self._attempts, self._begun_s = received, 0, time.monotonic()
        self._attempts += 1
        if self._attempts >= (ATTEMPTS_MAX if has_met else FIRST_ATTEMPTS_MAX) or is_final(error):
            return None
        wait_s = jittered_s(self._attempts)
        asked_s = getattr(error, "retry_after_s", None)
        if asked_s is not None:
            wait_s = asked_s + random.uniform(0, WAIT_S)  # noqa: S311 - spreads clients
        left_s = self._begun_s + PATIENCE_S - time.monotonic()
        return None if wait_s > left_s else wait_s


def jittered_s(attempts: int) -> float:
    """The wait after so many failed attempts: from half to all of a time that doubles."""
    most_s = min(WAIT_S * 2 ** min(attempts - 1, 10), WAIT_MAX_S)
    return random.uniform(most_s / 2, most_s)  # noqa: S311 - spreads clients


def is_final(error: Error) -> bool:
    """Whether the next attempt would fail alike: a certificate that is not trusted."""
    return isinstance(error.__cause__, ssl.SSLCertVerificationError)


def asks_for_more(error: Error, seconds: float) -> bool:
    """Whether a limit (429) asks to wait for longer than that: who asked is to decide."""
    asked_s = error.retry_after_s if isinstance(error, TooManyRequests) else None
    return asked_s is not None and asked_s > seconds


def retry_after_s(told: str | None, date: str | None, now_s: float) -> float | None:
    """Seconds that `Retry-After` asks for, in either of its forms; None if nothing readable.

    A date is compared with the server's own `Date`, as far as there is one.

    >>> retry_after_s("2", None, 0)
    2.0
    >>> retry_after_s("Thu, 01 Jan 1970 00:00:30 GMT", "Thu, 01 Jan 1970 00:00:10 GMT", 0)
    20.0
    """
    if told is None:
        return None
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        until_s = parsedate_to_datetime(told).timestamp()
        if date is not None:
            now_s = parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, until_s - now_s)


def rate_limit_of(fields: Mapping[str, str]) -> RateLimit | None:
    """The limit that is reached, of draft-ietf-httpapi-ratelimit-headers-10; None if none is told.

    >>> told = {"Ratelimit": '"requests";r=0;t=1', "Ratelimit-Policy": '"requests";q=100;w=1'}
    >>> rate_limit_of(told)
    RateLimit(policy='requests', quota=100, remaining=0, reset_s=1, window_s=1)
    """
    limits, policies = (
        {name: {key: int(value) for key, value in _PARAMETER.findall(rest)}
         for name, rest in _LIMIT.findall(fields.get(field, ""))}
        for field in ("Ratelimit", "Ratelimit-Policy")
    )  # fmt: skip
    told = [(limit["r"], name) for name, limit in limits.items() if "r" in limit]
    if not told:
        return None
    remaining, name = min(told)
    policy = policies.get(name, {})
    return RateLimit(name, policy.get("q"), remaining, limits[name].get("t"), policy.get("w"))


def refusal_of(
    options: Options, status: int, reason: str, told: Iterable[tuple[str, str]], content: bytes
) -> Error:
    """The error that a response other than 200 and 206 tells: RFC 9457, or a line of plain text.

    `told` are its header fields.
    """
    fields = {name.title(): value for name, value in told}
    where = fields.get("Location")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and where is not None:
        return UnexpectedAnswer(
            f"the server redirects to {where}: redirects are not followed, give that as the url",
            status=status,
        )
    detail = None
    try:
        problem = json.loads(content)
        detail = problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError, RecursionError):
        pass  # a proxy's page
    if not isinstance(detail, str):
        detail = f"the server answered {status} {reason}"
        line = content.decode("ascii", "replace").strip()
        is_text = fields.get("Content-Type", "").partition(";")[0].strip().lower() == "text/plain"
        if is_text and line.isprintable() and 0 < len(line) <= TEXT_MAX:
            detail += f": {line}"
    if status == HTTPStatus.UNAUTHORIZED and options.key is None:
        detail += f"; {options.key_hint}"
    wait_s = retry_after_s(fields.get("Retry-After"), fields.get("Date"), time.time())
    error = error_of(status, detail, wait_s)
    if isinstance(error, TooManyRequests):
        error.rate_limit = rate_limit_of(fields)
    return error


def _strong_tag(response: Response) -> str | None:
    tag = response.getheader("ETag", "")
    return tag if tag.startswith('"') else None


def sentence_of(options: Options, error: Exception) -> str:
    """What an error of the connection means to a user."""
    origin = options.origin
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{origin}: the certificate is not trusted ({error.verify_message}): give the "
            "authority's PEM file as ca="
        )
    if isinstance(error, ssl.SSLError):
        return f"{origin}: no TLS connection ({error.reason}): is the port one of plain HTTP?"
    if isinstance(error, ConnectionRefusedError):
        return f"{origin}: nothing listens there; is the server running?"
    if isinstance(error, OSError) and error.strerror:
        return f"{origin}: {error.strerror}"
    return f"{origin}: the connection ended without an answer"
