"""Clients that leave, at every point of every kind of exchange, in every way there is.

Owns the kinds: the product of wire, what was asked, how often, what was read, and the way of
leaving. `tests.slow.leaving_talk` speaks for them, `tests.slow.leaving_wire` lets them go.
"""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from tests.contract.site import data_target
from tests.storage.trees import DAY, DAY_START_S, marks, put, start_of, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

MANY, FLOOD = 20, 100
"""Requests at once of a kind that asks many times; of large answers nobody reads so many."""

PLAIN, HTTP1, HTTP2, HANDSHAKE = "plain", "http1-tls", "http2", "handshake"
WIRES = (PLAIN, HTTP1, HTTP2, HANDSHAKE)

FLOODED = {PLAIN: ("small", "medium"), HTTP1: ("medium",), HTTP2: ("small", "medium")}
"""Answers that are sent at once, until the kernel takes no more: of a flood also for the medium.

Over HTTP/1.1 on TLS a request costs ten times what it costs elsewhere.
"""

LARGE = frozenset({"large", "cold", "tiny"})
"""More than the kernel takes for a client that does not read."""

WITH_CONTENT = frozenset({"posted", "chunked", "expected"})
"""Requests whose content never comes whole: nothing may follow them."""

WHATS = (
    "small",
    "planned",
    "medium",
    *sorted(LARGE),
    "absent",
    "head",
    "range",
    "health",
    *WITH_CONTENT,
)
READS = ("nothing", "some", "first", "all", "slowly")
WHOLE = frozenset({"first", "all"})

SILENT = frozenset({"half", "notify", "silence", "garbage", "cancel", "goaway"})
"""Ways in which the client keeps its socket until the server has given the connection up."""

WAYS = {
    HANDSHAKE: ("close", "reset", "half", "silence"),
    PLAIN: ("close", "reset", "half", "silence", "garbage"),
    HTTP1: ("close", "reset", "half", "silence", "garbage", "notify", "notify-close"),
}
WAYS[HTTP2] = (*WAYS[HTTP1], "cancel", "cancel-close", "goaway", "goaway-close")

ASKED = {
    PLAIN: ("one", "one-and-part", "two", "many", "flood"),
    HTTP2: ("one", "one-and-part", "two", "many", "flood"),
}
ASKED[HTTP1] = ASKED[PLAIN]
BEFORE = {
    HANDSHAKE: ("nothing", "part-of-hello", "hello", "garbage", "plain-request"),
    PLAIN: ("nothing", "part"),
    HTTP1: ("nothing", "part"),
    HTTP2: ("nothing", "part-of-preface", "preface", "part", "open-block", "open-continuation"),
}
"""What was said before any request was whole."""

WINDOWS = {PLAIN: ("-",), HTTP1: ("-",), HTTP2: ("wide", "default", "none")}


class Kind(NamedTuple):
    """One kind of client; its text is what `LEAVING_ONLY` takes."""

    wire: str
    asked: str
    what: str
    window: str
    read: str
    way: str

    def __str__(self) -> str:
        return "|".join(self)

    @property
    def requests(self) -> int:
        """How many requests were asked in whole."""
        return {"one": 1, "one-and-part": 1, "two": 2, "many": MANY, "flood": FLOOD}.get(
            self.asked, 0
        )


def every_kind(wire: str) -> Iterator[Kind]:
    """All kinds of a wire that make sense."""
    for asked, way in product(BEFORE[wire], WAYS[wire]):
        if asked == "nothing" and way.startswith("cancel"):
            continue
        yield Kind(wire, asked, "-", "-", "nothing", way)
    if wire == HANDSHAKE:
        return
    for kind in map(
        Kind._make, product([wire], ASKED[wire], WHATS, WINDOWS[wire], READS, WAYS[wire])
    ):
        if kind.asked == "flood" and kind.what not in FLOODED[wire]:
            continue
        if kind.asked == "one-and-part" and kind.what in WITH_CONTENT and wire != HTTP2:
            continue  # the part would be content
        if kind.read == "all" and (
            kind.requests == 1 or (kind.requests > 2 and kind.what in LARGE)
        ):
            continue  # it is as "first", or would take too long
        if kind.window == "none" and kind.read in WHOLE:
            continue
        if kind.window == "default" and kind.read in WHOLE and kind.what in LARGE:
            continue
        yield kind


def deck(wires: tuple[str, ...], rng: random.Random, only: str = "") -> Iterator[Kind]:
    """Kinds without end: all that contain `only`, shuffled, then again; every wire as often."""
    kinds = {wire: [kind for kind in every_kind(wire) if only in str(kind)] for wire in wires}
    hands: dict[str, list[Kind]] = {wire: [] for wire in wires if kinds[wire]}
    assert hands, f"no kind is {only}"
    while True:
        wire = rng.choice(list(hands))
        if not hands[wire]:
            hands[wire] = rng.sample(kinds[wire], len(kinds[wire]))
        yield hands[wire].pop()


class Site:
    """A root with an answer for every `what`, each larger or smaller than the kernel's buffers."""

    SMALL, MEDIUM, LARGE, COLD, TINY = (
        Series("leaving", symbol, "MD") for symbol in ("SMALL", "MEDIUM", "LARGE", "COLD", "TINY")
    )
    LARGE_RECORDS = 1_250_000
    MEDIUM_RECORDS = 7_500
    TINY_DAYS, TINY_RECORDS = 300, 2_500

    def __init__(self, root: str) -> None:
        self.root = root
        self._series = {
            "medium": self.MEDIUM,
            "large": self.LARGE,
            "head": self.LARGE,
            "range": self.LARGE,
            "cold": self.COLD,
            "tiny": self.TINY,
        }
        for series, records in ((self.SMALL, 500), (self.MEDIUM, self.MEDIUM_RECORDS)):
            put(root, {"time": _times(records), "price": marks(records)}, DAY, series)
        flat = u32(DAY_START_S) * self.LARGE_RECORDS
        for series in (self.LARGE, self.COLD):
            paths = put(root, {"time": flat, "price": marks(self.LARGE_RECORDS)}, DAY, series)
        self._cold_path = paths["price"]
        """Of a day that is open, so that it is not mapped and can be dropped from memory."""
        _age(root, self.SMALL, self.MEDIUM, self.LARGE)
        with open(self._cold_path, "rb") as file:
            os.fsync(file.fileno())
        values = marks(self.TINY_RECORDS)
        for index in range(self.TINY_DAYS):
            day = DAY.fromordinal(DAY.toordinal() - index)
            times = u32(start_of(day)) * self.TINY_RECORDS
            put(root, {"time": times, "price": values}, day, self.TINY)
        _age(root, self.TINY)

    def chill(self) -> None:
        """Have the kernel forget what is on the disk of the cold series."""
        fd = os.open(self._cold_path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def target(self, what: str, rng: random.Random) -> str:
        """What a client of a kind asks for."""
        if what in ("absent", "health"):
            return "/nowhere" if what == "absent" else "/healthz"
        if what == "cold":
            self.chill()
        if what == "planned":  # asked for by nobody before
            return data_target(self.SMALL, rng.randrange(DAY_START_S))
        columns = ["time", "price"] if what in ("tiny", "medium") else ["price"]
        return data_target(self._series.get(what, self.SMALL), columns=columns)


def _times(count: int) -> bytes:
    return u32(*range(DAY_START_S, DAY_START_S + count))


def _age(root: str, *aged: Series) -> None:
    """Make the days of these series closed ones."""
    old_s = DAY_START_S + 400 * 86_400
    for series in aged:
        folder = os.path.join(root, *series)
        for name in os.listdir(folder):
            os.utime(os.path.join(folder, name), (old_s, old_s))
