"""What clients of a run ask for, and what may be answered: one table.

Owns the requests. Each kind says how it is asked and what the right answers are, given the versions
of the tree from its arrival to its answer. `condition` names a row of conditions.py: those fields
are made from what the tree holds when the client asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation import conditions
from tests.simulation.http2_tree import START_S, Asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.simulation.conditions import Fields
    from tests.simulation.http2_tree import Tree


class Right(NamedTuple):
    """A right answer; `content` None where any is."""

    status: int
    content: bytes | None


class Kind(NamedTuple):
    """One kind of request; `weight` is how often it comes."""

    name: str
    weight: int
    target: str
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    asked: Asked | None = None
    status: int = 200
    is_symbols: bool = False
    condition: str = ""

    def fields_now(self, tree: Tree, rng: Random) -> Fields:
        """Its fields, and those of its condition."""
        fields = list(self.fields)
        if self.condition and self.asked is not None:
            body, etag = tree.believed(self.asked)
            made = conditions.MAKERS[self.condition][1](rng, body, etag)
            fields += [(name.lower(), value) for name, value in made]
        return fields

    def right(self, tree: Tree, first: int, last: int) -> Iterator[Right]:
        """Every right answer from version `first` to version `last`."""
        if self.asked is not None and self.status == 200:
            for body in tree.bodies(self.asked, first, last):
                yield Right(404, None) if body is None else Right(200, body)
        elif self.is_symbols:
            for version in tree.versions[first : last + 1]:
                yield Right(200, version.symbols.encode())
        else:
            yield Right(self.status, None)


def _data(name: str, weight: int, asked: Asked, **more: object) -> Kind:
    return Kind(name, weight, asked.target, asked=asked, **more)  # type: ignore[arg-type]


EVERYTHING = Asked()
WIDE = Asked(("price", "id", "time"))
SLICE = Asked(("time", "id"), START_S + 1_800, START_S + 2 * 86_400 + 1_800)
YESTERDAY = Asked(("time", "price"), START_S + 2 * 86_400, START_S + 3 * 86_400 - 1)
FIRST_DAY = Asked(("price",), START_S, START_S + 86_399)

KINDS = (
    _data("everything", 10, EVERYTHING),
    _data("wide", 6, WIDE),
    _data("slice", 6, SLICE),
    _data("closed day", 10, YESTERDAY),
    _data("one column", 6, FIRST_DAY),
    _data("head", 4, YESTERDAY, method="HEAD"),
    _data("lower case", 1, YESTERDAY, method="get", status=405),
    _data("with content", 5, YESTERDAY, content=b"x" * 50),
    _data("with too much", 5, YESTERDAY, content=b"x" * 700),
    _data("unwanted field", 2, EVERYTHING, fields=(("x-some", "value"), ("cookie", "a=b"))),
    *(
        _data(f"{name} of {asked_name}", weight, asked, condition=name)
        for name, (weight, _) in conditions.MAKERS.items()
        for asked_name, asked in (("wide", WIDE), ("closed day", YESTERDAY))
    ),
    Kind("post", 1, EVERYTHING.target, "POST", (), b"{}", status=405),
    Kind("symbols", 3, "/api/symbols", is_symbols=True),
    Kind("health", 2, "/healthz"),
    Kind("ready", 1, "/readyz"),
    Kind("no such path", 1, "/api/nothing", status=404),
    Kind("no such symbol", 1, EVERYTHING.target.replace("symbol=X", "symbol=Q"), status=404),
    Kind("bad parameter", 2, "/api/data?symbol=X&type=MD&start=1", status=400),
    Kind("preflight", 1, "/api/data", "OPTIONS", status=204),
    Kind("refused with content", 5, "/", "PUT", (("expect", "more"),), b"c" * 30, status=417),
    Kind("too long", 1, "/api/data?" + "a" * 1_100, status=414),
    Kind("expectation", 1, EVERYTHING.target, fields=(("expect", "more"),), status=417),
)
NAMED = {kind.name: kind for kind in KINDS}
