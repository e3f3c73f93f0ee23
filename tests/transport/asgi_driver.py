"""A server for one ASGI request without a network: scope, events in, events out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tests.sources import Scatters
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.messages import Response, Unlimited
from zerocopy.service.problems import problem_response
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.body import Bodies
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.timers import Wheel

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from zerocopy.core.http.messages import Request
    from zerocopy.core.window import Window
    from zerocopy.transport.context import Context
    from zerocopy.transport.scheduler import SendScheduler

    Event = MutableMapping[str, Any]

REQUEST = {"type": "http.request", "body": b"", "more_body": False}
TIMEOUT_S = 20.0
TURNS_TO_SETTLE = 50
"""Turns of the loop in which everything that can happen without the driver has happened."""


def scope_of(target: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """The scope of a request; `more` replaces what is usual."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "http_version": "2",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"t")],
        **more,
    }


class Driver:
    """Gives `events`, then waits for `push`; keeps what is sent. `room` blocks every send."""

    def __init__(self, *events: Event) -> None:
        self.sent: list[Event] = []
        self.received = 0
        self.room = asyncio.Event()
        self.room.set()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        for event in events or (REQUEST,):
            self._events.put_nowait(event)

    def push(self, event: Event) -> None:
        """One more event for the application."""
        self._events.put_nowait(event)

    async def receive(self) -> Event:
        """What the application awaits."""
        event = await self._events.get()
        self.received += 1
        return event

    async def send(self, event: Event) -> None:
        """Take an event; return when there is room."""
        self.sent.append(event)
        await self.room.wait()

    @property
    def status(self) -> int:
        """Of the response that began."""
        assert self.sent[0]["type"] == "http.response.start"
        return int(self.sent[0]["status"])

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Of the response; each name once and in lower case."""
        pairs: list[tuple[bytes, bytes]] = list(self.sent[0]["headers"])
        assert len(dict(pairs)) == len(pairs)
        assert all(name == name.lower() for name, _ in pairs)
        return dict(pairs)

    @property
    def pieces(self) -> list[bytes]:
        """Of the body so far."""
        assert all(event["type"] == "http.response.body" for event in self.sent[1:])
        return [event.get("body", b"") for event in self.sent[1:]]

    @property
    def is_ended(self) -> bool:
        """Whether the last event says so, and no other does."""
        more = [event.get("more_body", False) for event in self.sent[1:]]
        assert all(more[:-1])
        return bool(more) and not more[-1]


def context_of(scheduler: SendScheduler, bodies: Bodies | None = None) -> Context:
    """What an application uses of its listener: turns, time, and what all its bodies hold."""
    shared = SimpleNamespace(scheduler=scheduler, wheel=Wheel(), bodies=bodies or Bodies())
    return cast("Context", shared)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(TURNS_TO_SETTLE):
        await asyncio.sleep(0)


def ask(app: AsgiApp, scope: Event, *events: Event) -> Driver:
    """One request to its end; what was sent."""

    async def run() -> Driver:
        driver = Driver(*events)
        async with asyncio.timeout(TIMEOUT_S):
            await app(scope, driver.receive, driver.send)
        return driver

    return asyncio.run(run())


@dataclass
class FakeSource(Scatters):
    """Bytes that count how far they were read; `fails_at` is the first offset that raises."""

    content: bytes
    fails_at: int = 1 << 60
    read_to: int = 0
    is_ready: bool = True

    def fileno(self) -> int:
        """Never asked: this is for sendfile(2)."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked: this is for the plain path."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it, once the handler has prepared it."""
        return count if self.is_ready else 0

    def view(self, offset: int, count: int) -> memoryview:
        """A slice, or the error."""
        if offset + count > self.fails_at:
            raise DataChangedError("a day file changed")
        self.read_to = offset + count
        return memoryview(self.content)[offset : offset + count]


@dataclass
class FakeHandler(Unlimited):
    """Answers everything with `response`, at once or later; writes down what it is asked."""

    response: Response
    is_known: bool = True
    requests: list[Request] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)
    refused: list[Exception] = field(default_factory=list)
    prepare_error: DataChangedError | None = None

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """The response, if it is known."""
        assert times == 1
        self.requests.append(request)
        return self.response if self.is_known else None

    async def respond(self, request: Request) -> Response:
        """The response, a turn later."""
        assert self.requests[-1] == request
        await asyncio.sleep(0)
        return self.response

    def count_reused(self, times: int) -> None:
        """Never called: every request is asked for."""
        raise AssertionError(times)

    async def prepare(self, window: Window) -> None:
        """How many at a time; they are ready then, or it fails."""
        self.prepared.append(len(window.slices))
        await asyncio.sleep(0)
        if self.prepare_error is not None:
            raise self.prepare_error
        window.has_waited = True

    def refuse(self, error: Exception) -> Response:
        """The problem document."""
        self.refused.append(error)
        return problem_response(error)


CONTENT_BYTES_MAX = 1_000
LIMITS = RequestLimits(
    target_bytes_max=100,
    field_bytes_max=200,
    head_bytes_max=600,
    fields_max=10,
    content_bytes_max=CONTENT_BYTES_MAX,
)
WINDOW_BYTES = 1 << 20
NOW = Response(200, ((b"ETag", b'"x"'), (b"X-Mixed", b"Case")), b"hello")
OLD = {"http_version": "1.1"}


class Rig:
    """An application over a `FakeHandler`, with its counters and failures."""

    def __init__(self, response: Response = NOW, *, content_read_s: float = TIMEOUT_S) -> None:
        self.handler = FakeHandler(response)
        self.counters = [0] * len(slots.SLOTS)
        self.failures: list[Exception] = []
        self.app = AsgiApp(
            handler=self.handler,
            limits=LIMITS,
            content_read_s=content_read_s,
            read_ahead_bytes_max=WINDOW_BYTES,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.failures.append(error),
        )
