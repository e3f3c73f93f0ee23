"""The kinds of request a simulated client makes, and what each may be answered.

One table: a new kind is a new row. A row makes the bytes of a request and the function that judges
its answer by what the tree and the system calls did meanwhile (`Window`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation import oracle
from tests.simulation.faults import LOOKS_ABSENT
from tests.simulation.oracle import Query
from tests.storage.trees import DAY_S, DAY_START_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.simulation.filesystem import State

ROOT = "/data"
FIRST_S = DAY_START_S
LAST_S = DAY_START_S + 4 * DAY_S - 1
REPLANS_MAX = 3
"""So many changes during one request may end it with 500: see storage/planner.py."""


class Reply(NamedTuple):
    """One answer, or as much of it as came."""

    status: int
    fields: dict[str, str]
    body: bytes
    promised: int
    whole: bool

    @property
    def closes(self) -> bool:
        """Whether it is the last on its connection."""
        return self.fields.get("connection") == "close"


class Window(NamedTuple):
    """What happened between the last byte of a request and the first of its answer."""

    states: Sequence[State]
    struck: Sequence[int]
    crowded: bool

    @property
    def may_fail(self) -> bool:
        """Whether 500 or 503 can be true."""
        return bool(self.struck) or self.crowded or len(self.states) > REPLANS_MAX

    @property
    def may_look_absent(self) -> bool:
        """Whether a failed call said that there is no such thing."""
        return any(code in LOOKS_ABSENT for code in self.struck)


Judge = "Callable[[Reply, Window], str | None]"


class Ask(NamedTuple):
    """One request: its bytes, where its head ends, and the judge of its answer."""

    kind: str
    wire: bytes
    judge: Callable[[Reply, Window], str | None]
    is_head: bool = False
    closes: bool = False

    @property
    def head_nbytes(self) -> int:
        """From here on it may be answered."""
        at = self.wire.find(b"\r\n\r\n")
        return at + 4 if at >= 0 else len(self.wire)

    @property
    def waits(self) -> bool:
        """Whether its content waits for 100 (Continue)."""
        return b"100-continue" in self.wire


def request(
    target: str, *fields: str, method: str = "GET", version: str = "1.1", content: bytes = b""
) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {target} HTTP/{version}", "Host: sim", *fields, "", ""]
    return "\r\n".join(lines).encode() + content


# ---- judges


def of_data(query: Query, *, is_head: bool = False) -> Callable[[Reply, Window], str | None]:
    """200 with an allowed body; 404 where there was nothing."""

    def judge(reply: Reply, window: Window) -> str | None:
        if reply.status in {500, 503}:
            return None if window.may_fail else f"{reply.status} without a fault"
        allowed = oracle.bodies(window.states, query)
        if reply.status == 404:
            absent = window.may_look_absent or None in allowed
            return None if absent else "404 although it was always there"
        if reply.status != 200:
            return f"status {reply.status}"
        for body in allowed:
            if body is None or len(body) != reply.promised:
                continue
            if is_head or body == reply.body or (not reply.whole and body.startswith(reply.body)):
                return None
        return f"a body that no state had: {reply.promised} bytes, {reply.body!r}"

    return judge


def of_symbols(exchange: str | None) -> Callable[[Reply, Window], str | None]:
    """200 with a listing that was true."""

    def judge(reply: Reply, window: Window) -> str | None:
        if reply.status in {500, 503}:
            return None if window.may_fail else f"{reply.status} without a fault"
        if reply.status != 200:
            return f"status {reply.status}"
        if not reply.whole or window.may_look_absent:
            return None
        document = json.loads(reply.body)
        return oracle.symbols_complaint(document, window.states, ROOT, exchange)

    return judge


def of_status(*statuses: int) -> Callable[[Reply, Window], str | None]:
    """One of `statuses`, whatever the files do; 503 only where there is no room."""

    def judge(reply: Reply, window: Window) -> str | None:
        if reply.status in statuses or (reply.status == 503 and window.may_fail):
            return None
        return f"status {reply.status}, not {statuses}"

    return judge


# ---- kinds


def target_of(query: Query) -> str:
    """The request target that asks for `query`."""
    return (
        f"/api/data?exchange={query.exchange}&symbol={query.symbol}&type={query.type}"
        f"&start={query.start}&end={query.end}&columns={','.join(query.columns)}"
    )


SMALL = Query(ROOT, "coinbase", "X", "MD", FIRST_S, LAST_S, ("time", "price"))
LARGE = Query(ROOT, "coinbase", "L", "MD", FIRST_S, LAST_S, ("price", "time"))


def data(query: Query, kind: str, *fields: str, version: str = "1.1", closes: bool = False) -> Ask:
    """GET of one query."""
    wire = request(target_of(query), *fields, version=version)
    return Ask(kind, wire, of_data(query), closes=closes)


def head(query: Query, kind: str) -> Ask:
    """HEAD of one query."""
    wire = request(target_of(query), method="HEAD")
    return Ask(kind, wire, of_data(query, is_head=True), is_head=True)


def cut(rng: Random) -> Ask:
    """A range that begins and ends within days, of some columns."""
    start, end = sorted(
        FIRST_S
        + rng.randint(-1, 4) * DAY_S
        + rng.choice([0, 1, 2, 3, 300, 450, 900, 1_350, 86_399])
        for _ in range(2)
    )
    columns = rng.choice([("price",), ("time",), ("id", "time"), ("price", "id", "time")])
    symbol = rng.choice(["X", "L"])
    return data(Query(ROOT, "coinbase", symbol, "MD", start, end, columns), "cut")


def absent(rng: Random) -> Ask:
    """Something that no state has."""
    changed = rng.choice(
        [{"symbol": "NO"}, {"exchange": "NO"}, {"type": "NO"}, {"columns": ("no",)}]
    )
    return data(SMALL._replace(**changed), "absent")  # type: ignore[arg-type]


def with_content(rng: Random) -> Ask:
    """Content of a known length, which is dropped."""
    content = b"x" * rng.randint(1, 50)
    wire = request(target_of(SMALL), f"Content-Length: {len(content)}", content=content)
    return Ask("content", wire, of_data(SMALL))


def expecting(rng: Random) -> Ask:
    """Content that waits for 100 (Continue)."""
    content = b"y" * rng.randint(1, 50)
    fields = (f"Content-Length: {len(content)}", "Expect: 100-continue")
    return Ask("expect", request(target_of(SMALL), *fields, content=content), of_data(SMALL))


def chunked(_rng: Random) -> Ask:
    """Content of unknown length: answered, then the connection is closed."""
    wire = request(target_of(SMALL), "Transfer-Encoding: chunked", content=b"0\r\n\r\n")
    return Ask("chunked", wire, of_data(SMALL), closes=True)


def malformed(rng: Random) -> Ask:
    """What is no request: 400 and the end."""
    wires = [b"GET  / HTTP/1.1\r\n\r\n", b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
    return Ask("malformed", rng.choice(wires), of_status(400), closes=True)


def fixed(kind: str, target: str, *statuses: int, method: str = "GET") -> Callable[[Random], Ask]:
    """A request whose answer does not depend on the data."""
    ask = Ask(kind, request(target, method=method), of_status(*statuses))
    return lambda _rng: ask


KINDS: dict[str, tuple[int, Callable[[Random], Ask]]] = {
    "small": (8, lambda _: data(SMALL, "small")),
    "large": (8, lambda _: data(LARGE, "large")),
    "cut": (6, cut),
    "head": (1, lambda _: head(SMALL, "head")),
    "head of large": (1, lambda _: head(LARGE, "head of large")),
    "absent": (1, absent),
    "symbols": (2, lambda _: Ask("symbols", request("/api/symbols"), of_symbols(None))),
    "symbols of one": (
        1,
        lambda _: Ask("symbols", request("/api/symbols?exchange=kraken"), of_symbols("kraken")),
    ),
    "health": (1, fixed("health", "/healthz", 200)),
    "ready": (1, fixed("ready", "/readyz", 200)),
    "no path": (1, fixed("no path", "/nothing", 404)),
    "bad query": (1, fixed("bad query", "/api/data?symbol=X", 400)),
    "method": (1, fixed("method", "/api/data", 405, method="POST")),
    "preflight": (1, fixed("preflight", "/api/data", 204, method="OPTIONS")),
    "content": (2, with_content),
    "expect": (2, expecting),
    "chunked": (1, chunked),
    "malformed": (1, malformed),
    "close": (1, lambda _: data(LARGE, "close", "Connection: close", closes=True)),
    "HTTP/1.0": (1, lambda _: data(LARGE, "HTTP/1.0", version="1.0", closes=True)),
}
"""Weight and maker of each kind."""


def any_ask(rng: Random) -> Ask:
    """A request of a kind that the weights make likely."""
    kinds = list(KINDS)
    [kind] = rng.choices(kinds, [KINDS[kind][0] for kind in kinds])
    return KINDS[kind][1](rng)
