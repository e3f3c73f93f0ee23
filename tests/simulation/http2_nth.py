"""One request, and exactly one call beneath it that fails: the first, the second, and so on.

Owns the shapes of requests whose calls are counted, and the run that fails the n-th of them. After
it the same request is made again without a fault, and must be answered right.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.disk import ERRORS
from tests.simulation.http2_kinds import NAMED, Kind
from tests.simulation.http2_run import PATIENCE_S, Run

if TYPE_CHECKING:
    from tests.simulation.http2_judge import Ask

NEVER = 1 << 60
SEED = 2
"""Its tree is small and has every file."""


class Shape(NamedTuple):
    """A request: after `warm` equal ones, with answers of so many bytes read at once."""

    kind: Kind
    warm: int
    small_bytes_max: int


SHAPES = {
    "small and cold": Shape(NAMED["everything"], 0, 65_536),
    "small, by the lane": Shape(NAMED["closed day"], 3, 65_536),
    "large, of closed days": Shape(NAMED["slice"], 0, 0),
    "large, once more": Shape(NAMED["closed day"], 2, 0),
    "large, with the open day": Shape(NAMED["wide"], 0, 0),
    "by the application": Shape(NAMED["with content"], 0, 0),
    "head": Shape(NAMED["head"], 0, 0),
    "symbols": Shape(NAMED["symbols"], 0, 0),
    "part, small": Shape(NAMED["range of closed day"], 0, 65_536),
    "part, by the lane": Shape(NAMED["if range of closed day"], 3, 65_536),
    "part, large": Shape(NAMED["range of wide"], 0, 0),
    "parts, large": Shape(NAMED["ranges apart of closed day"], 0, 0),
    "beyond": Shape(NAMED["beyond of closed day"], 0, 0),
    "not modified": Shape(NAMED["not modified of closed day"], 0, 0),
    "not modified, by the lane": Shape(NAMED["not modified of closed day"], 3, 65_536),
    "failed precondition": Shape(NAMED["if match old of closed day"], 1, 0),
    "unknown": Shape(NAMED["no such symbol"], 0, 0),
}


class Fault(NamedTuple):
    """The call that fails; `choice` counts through its errors, `onwards` fails the rest too."""

    nth: int
    choice: int = 0
    onwards: bool = False
    is_write: bool = False


class NthRun(Run):
    """One request of a shape, the fault, and the request once more."""

    def __init__(self, root: str, shape: Shape, fault: Fault) -> None:
        super().__init__(SEED, root)
        self.shape = shape
        self.fault = fault
        self.nature = self.nature._replace(
            steps=0,
            faults=0.0,
            amid=0.0,
            kinds=(shape.kind,),
            windows=(65_535,),
            small_bytes_max=shape.small_bytes_max,
        )
        self.is_armed = False
        self.calls = 0
        self.writes = 0
        self.tree.list_symbols()

    def _go_wild(self) -> None:
        self.built.in_flight_max = self.built.service._requests_in_flight_max = 100
        self.tap.before_write = self._before_write
        self.is_wild = False
        for _ in range(self.shape.warm):
            self._answer()
        self.is_armed = True
        self._answer()
        self.is_armed = False
        if not self.is_lost:
            ask = self._answer()
            assert ask.faults_before == len(self.faults)

    def _answer(self) -> Ask:
        self.ask()
        while self.unfinished:
            self.finish_content()
        pipe, wire = self.peer.pipe, self.wire
        self.asks[max(self.asks)].offset = pipe.sent_total
        while not self._is_settled():
            if pipe.sent:
                self._deliver_all()
            if wire.outbox:
                self.peer.receive(wire.take(len(wire.outbox)))
            for stream_id in (0, *self._open_streams()):
                self._widen(stream_id, 1 << 20, below=1 << 19)
            assert self.loop.time() < PATIENCE_S, "no end"
            self.loop.run_once()
        return self.asks[max(self.asks)]

    def _deliver_all(self) -> None:
        data = bytes(self.peer.pipe.sent)
        self.peer.pipe.sent.clear()
        for ask in self.asks.values():
            if ask.arrived_in is None:
                ask.arrived_in, ask.faults_before = self.tree.now, len(self.faults)
        self.wire.deliver(data)

    def _before(self, call: str) -> None:
        if not self.is_armed or (call == "fstat" and self.loop.job in {"", "run"}):
            return
        self.calls += 1
        fault = self.fault
        is_it = self.calls == fault.nth or (fault.onwards and self.calls > fault.nth)
        if is_it and not fault.is_write:
            code = ERRORS[call][fault.choice % len(ERRORS[call])]
            self.faults.append(call)
            raise OSError(code, os.strerror(code))

    def _before_write(self) -> None:
        if self.is_armed:
            self.writes += 1
            if self.fault.is_write and self.writes == self.fault.nth:
                self.is_lost = True
                self.wire.lose()


def counts_of(root: str, shape: Shape) -> tuple[int, int]:
    """How many calls, and how many writes, a request of this shape makes."""
    run = NthRun(root, shape, Fault(NEVER))
    run.execute()
    return run.calls, run.writes
