"""A request of a simulated client, its answer, and the judges of answers.

Owns what a judge is: a function of the answer and of what the tree and the system calls did
meanwhile (`Window`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation import oracle
from tests.simulation.answers import Found, Reply, is_answer
from tests.simulation.faults import LOOKS_ABSENT
from tests.storage.trees import DAY_S, DAY_START_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.filesystem import State
    from tests.simulation.oracle import Query

ROOT = "/data"
FIRST_S = DAY_START_S
LAST_S = DAY_START_S + 4 * DAY_S - 1
REPLANS_MAX = 3
"""So many changes during one request may end it with 500: see storage/planner.py."""


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
    def is_rewritten(self) -> bool:
        """Whether bytes of a file were written over, which nobody may do amid its reading."""
        streams: dict[int, bytes] = {}
        return any(
            streams.setdefault(id(file.node), file.stream) is not file.stream
            for state in self.states
            for file in state.files.values()
        )

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


def of_data(
    query: Query, fields: Sequence[tuple[str, str]] = (), *, is_head: bool = False
) -> Callable[[Reply, Window], str | None]:
    """What `fields` make of an allowed body and its tag; 404 where there was nothing."""

    def judge(reply: Reply, window: Window) -> str | None:
        if reply.status in {500, 503}:
            return None if window.may_fail else f"{reply.status} without a fault"
        allowed = oracle.found(window.states, query)
        if reply.status == 404:
            absent = window.may_look_absent or None in allowed
            return None if absent else "404 although it was always there"
        method = "HEAD" if is_head else "GET"
        if any(found and is_answer(reply, found, method, fields) for found in allowed):
            return None
        if window.is_rewritten:
            # Tag and bytes of one small answer are read one after the other.
            bodies = [found for found in oracle.found(window.states, query) if found]
            if any(reply.fields.get("etag") in {None, found.etag} for found in bodies) and any(
                is_answer(reply, Found(found.body, None), method, fields) for found in bodies
            ):
                return None
        return f"no state had that: {reply}"

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
