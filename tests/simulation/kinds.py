"""The kinds of request a simulated client makes.

One table: a new kind is a new row. A row makes the bytes of a request and names the judge of its
answer. Clients know the tree as it was when they came: what they ask parts of, and its tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation import conditions, oracle
from tests.simulation.answers import Found
from tests.simulation.oracle import Query
from tests.simulation.requests import (
    FIRST_S,
    LAST_S,
    ROOT,
    Ask,
    of_data,
    of_status,
    of_symbols,
    request,
)
from tests.storage.trees import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.filesystem import State

    Maker = Callable[[Random, State], Ask]


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


def cut(rng: Random, _state: State) -> Ask:
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


def absent(rng: Random, _state: State) -> Ask:
    """Something that no state has."""
    changed = rng.choice(
        [{"symbol": "NO"}, {"exchange": "NO"}, {"type": "NO"}, {"columns": ("no",)}]
    )
    return data(SMALL._replace(**changed), "absent")  # type: ignore[arg-type]


def with_content(rng: Random, _state: State) -> Ask:
    """Content of a known length, which is dropped."""
    content = b"x" * rng.randint(1, 50)
    wire = request(target_of(SMALL), f"Content-Length: {len(content)}", content=content)
    return Ask("content", wire, of_data(SMALL))


def expecting(rng: Random, _state: State) -> Ask:
    """Content that waits for 100 (Continue)."""
    content = b"y" * rng.randint(1, 50)
    fields = (f"Content-Length: {len(content)}", "Expect: 100-continue")
    return Ask("expect", request(target_of(SMALL), *fields, content=content), of_data(SMALL))


def chunked(_rng: Random, _state: State) -> Ask:
    """Content of unknown length: answered, then the connection is closed."""
    wire = request(target_of(SMALL), "Transfer-Encoding: chunked", content=b"0\r\n\r\n")
    return Ask("chunked", wire, of_data(SMALL), closes=True)


def malformed(rng: Random, _state: State) -> Ask:
    """What is no request: 400 and the end."""
    wires = [b"GET  / HTTP/1.1\r\n\r\n", b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
    return Ask("malformed", rng.choice(wires), of_status(400), closes=True)


def fixed(kind: str, target: str, *statuses: int, method: str = "GET") -> Maker:
    """A request whose answer does not depend on the data."""
    ask = Ask(kind, request(target, method=method), of_status(*statuses))
    return lambda _rng, _state: ask


def conditional(name: str, query: Query | None = None) -> Maker:
    """A request for a part, or with a precondition, by what its client believes in."""

    def make(rng: Random, state: State) -> Ask:
        asked = query or rng.choice([SMALL, LARGE, LARGE])
        believed = oracle.found_in(state, asked)
        body, etag = believed or Found(b"{}\n" + bytes(500), None)
        fields = conditions.MAKERS[name][1](rng, body, etag or '"never"')
        wire = request(target_of(asked), *(f"{field}: {value}" for field, value in fields))
        return Ask(name, wire, of_data(asked, fields))

    return make


KINDS: dict[str, tuple[int, Maker]] = {
    "small": (8, lambda _rng, _state: data(SMALL, "small")),
    "large": (8, lambda _rng, _state: data(LARGE, "large")),
    "cut": (6, cut),
    "head": (1, lambda _rng, _state: head(SMALL, "head")),
    "head of large": (1, lambda _rng, _state: head(LARGE, "head of large")),
    "absent": (1, absent),
    "symbols": (2, lambda _rng, _state: Ask("symbols", request("/api/symbols"), of_symbols(None))),
    "symbols of one": (
        1,
        lambda _rng, _state: Ask(
            "symbols", request("/api/symbols?exchange=kraken"), of_symbols("kraken")
        ),
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
    "close": (1, lambda _rng, _state: data(LARGE, "close", "Connection: close", closes=True)),
    "HTTP/1.0": (1, lambda _rng, _state: data(LARGE, "HTTP/1.0", version="1.0", closes=True)),
    **{name: (weight, conditional(name)) for name, (weight, _) in conditions.MAKERS.items()},
}
"""Weight and maker of each kind."""


def any_ask(rng: Random, state: State) -> Ask:
    """A request of a kind that the weights make likely."""
    kinds = list(KINDS)
    [kind] = rng.choices(kinds, [KINDS[kind][0] for kind in kinds])
    return KINDS[kind][1](rng, state)
