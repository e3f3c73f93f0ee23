"""The users: one of the plain path, one of HTTP/2 over TLS.

Owns how questions reach locust's report: each answer is a line of its kind, under the path it came
by, with the time of its whole body. Who waits for whom is in the clients.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, ClassVar

from locust import User, task
from locust.exception import StopUser

from loadtest.http1_client import Http1Client
from loadtest.http2_client import Http2Client, NotProcessedError
from loadtest.mix import Market, Mix

if TYPE_CHECKING:
    import ssl

    from locust.env import Environment

    from loadtest.question import PendingRequest, Question
    from loadtest.server_url import ServerUrl

H2_WINDOWS_BYTES = (65_535, 1 << 20, 16 << 20)
"""Of a stream: what small clients have by default, and what large answers want."""

REFUSED_PAUSE_S = 0.2
"""After a connection that failed: a server that is down is not asked a thousand times a second."""

_numbers = itertools.count()


class MarketUser(User):
    """Asks what the mix says and reports how it went."""

    abstract = True
    path: ClassVar[str]
    market: ClassVar[Market] = Market([])
    url: ClassVar[ServerUrl | None] = None
    """Where the server is; None where the run has none for this path."""

    trust: ClassVar[ssl.SSLContext | None] = None

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options: Any = environment.parsed_options
        self._number = next(_numbers)
        self._streams_max: int = options.streams
        self._pause_s: float = options.pause_s
        self._pending: list[Question] = []
        self._mix = Mix(self.market, f"{options.seed}-{self._number}")

    def wait_time(self) -> float:
        """The pause between two requests."""
        return self._pause_s

    def next_question(self) -> Question:
        """What an answer gave rise to, else what the mix says."""
        return self._pending.pop() if self._pending else self._mix.next()

    def report(self, exchange: PendingRequest) -> None:
        """Tell locust; what was not processed is asked again instead."""
        if isinstance(exchange.error, NotProcessedError):
            self._pending.append(exchange.question)
            return
        self._pending += exchange.follow_ups
        if isinstance(exchange.error, OSError):
            time.sleep(REFUSED_PAUSE_S)
        self.environment.events.request.fire(
            request_type=self.path,
            name=exchange.question.kind,
            response_time=exchange.took_s * 1_000,
            response_length=exchange.nbytes,
            exception=exchange.error,
            context={},
        )


class PlainUser(MarketUser):
    """HTTP/1.1 on one kept connection, one question after the other."""

    abstract = False
    path: ClassVar[str] = "HTTP/1.1"

    def on_start(self) -> None:
        """Make the client; it connects for its first question."""
        if self.url is None or not self.market.series:
            raise StopUser
        self._client = Http1Client(self.url)

    def on_stop(self) -> None:
        """Close the connection."""
        self._client.close()

    @task
    def ask(self) -> None:
        """Ask the next question."""
        self.report(self._client.ask(self.next_question()))
        time.sleep(0)  # an answer that was there already has let nobody else run


class Http2User(MarketUser):
    """HTTP/2 on one connection, with several streams under way at any time."""

    abstract = False
    path: ClassVar[str] = "HTTP/2"

    def on_start(self) -> None:
        """Make the client; it connects for its first question."""
        if self.url is None or self.trust is None or not self.market.series:
            raise StopUser
        window_bytes = H2_WINDOWS_BYTES[self._number % len(H2_WINDOWS_BYTES)]
        self._client = Http2Client(self.url, self.trust, window_bytes)

    def on_stop(self) -> None:
        """Close the connection."""
        self._client.close()

    @task
    def ask(self) -> None:
        """Start streams until enough are under way, then wait for one to be over."""
        while self._client.streams < self._streams_max and self._client.takes_more:
            self._client.start(self.next_question())
        for exchange in self._client.wait():
            self.report(exchange)
        time.sleep(0)
