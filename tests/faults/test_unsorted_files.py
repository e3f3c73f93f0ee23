"""Garbage in a time column: a 500 that names the day and no path, or every record asked for."""

from __future__ import annotations

import json
import os
import random
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.contract.transports import TRANSPORTS
from tests.faults.download import EVERY_WAY, End, download
from tests.naive import naive_answer
from tests.server import Answer, RunningServer
from tests.storage.trees import DAY, DAY_START_S, age, append, marks, path_of, put, replace, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 3_000
NEXT = DAY + timedelta(days=1)
NEXT_S = DAY_START_S + 86_400
RUINED = Series("coinbase", "RUINED", "MD")
CUT = NEXT_S + 1, NEXT_S + COUNT
FIRST = DAY_START_S, DAY_START_S + 86_399
WHOLE = DAY_START_S, NEXT_S + 86_399


class Scene(NamedTuple):
    """A server over two days, of which a test may ruin the second, and the right answers."""

    root: str
    server: RunningServer
    bodies: dict[tuple[int, int], bytes]

    def target(self, ends: tuple[int, int], symbol: str = "RUINED") -> str:
        """Both columns of a range."""
        start_s, end_s = ends
        query = f"symbol={symbol}&type=MD&start={start_s}&end={end_s}&columns=time,price"
        return f"/api/data?{query}"

    def assert_right(self, way: str, ends: tuple[int, int]) -> None:
        """The oracle's answer, to the last byte."""
        end = download(self.server, way, self.target(ends))
        assert end == End(self.bodies[ends], is_whole=True)


@pytest.fixture(scope="module")
def scene(bound: tuple[Path, RunningServer]) -> Scene:
    """The two days, and what the oracle says of them."""
    root, server = str(bound[0]), bound[1]
    for day, start_s in ((DAY, DAY_START_S), (NEXT, NEXT_S)):
        put(root, {"time": times_of(start_s), "price": marks(COUNT)}, day, RUINED)
    bodies = {e: naive_answer(root, *RUINED, *e, ("time", "price")) for e in (CUT, WHOLE, FIRST)}
    return Scene(root, server, bodies)


def times_of(start_s: int) -> bytes:
    """Two records a second."""
    return u32(*(start_s + index // 2 for index in range(COUNT)))


GARBAGE = {
    "reversed": times_of(NEXT_S)[::-1],
    "ends early": times_of(NEXT_S)[:-4] + u32(0),
    "begins late": u32(NEXT_S + 90_000) + times_of(NEXT_S)[4:],
    "shifted by a torn record": times_of(NEXT_S)[:10] + times_of(NEXT_S)[12:] + b"??",
    "noise": random.Random(3).randbytes(4 * COUNT),
    "a step back in the window": times_of(NEXT_S)[:800] + u32(7) + times_of(NEXT_S)[804:],
}


@EVERY_WAY
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_times_are_a_500_that_names_the_day(scene: Scene, garbage: str, way: str) -> None:
    """The client learns the day, the log the file; other days are served, and so is a repair."""
    path = path_of(scene.root, "time", NEXT, RUINED)
    replace(path, GARBAGE[garbage])
    try:
        for _ in range(2):
            answer = download(scene.server, way, scene.target(CUT))
            assert isinstance(answer, Answer)
            assert answer.status == 500
            assert answer.fields["content-type"] == "application/problem+json"
            detail = json.loads(answer.content)["detail"]
            assert detail == f"the times of {NEXT:%d.%m.%y} are not sorted"
            assert answer.fields["cache-control"] == "no-store"
        scene.assert_right(way, FIRST)
        errors = scene.server.logged("data_error")
        assert errors[-1]["detail"] == detail
        assert path in errors[-1]["cause"]
    finally:
        replace(path, times_of(NEXT_S))
    for ends in (CUT, WHOLE):
        scene.assert_right(way, ends)


@EVERY_WAY
def test_answer_given_before_a_day_was_ruined_is_not_given_again(scene: Scene, way: str) -> None:
    """Kept, proved, then garbage is written over it in place: 500, and after the repair 200."""
    path = path_of(scene.root, "time", NEXT, RUINED)
    age(path, path_of(scene.root, "price", NEXT, RUINED), os.path.dirname(path))
    for _ in range(3):
        scene.assert_right(way, CUT)
    with open(path, "r+b") as file:
        file.write(GARBAGE["reversed"])
    answer = download(scene.server, way, scene.target(CUT))
    assert isinstance(answer, Answer)
    assert answer.status == 500
    with open(path, "r+b") as file:
        file.write(times_of(NEXT_S))
    scene.assert_right(way, CUT)


@EVERY_WAY
def test_recorder_that_appends_while_it_is_asked_is_never_taken_for_garbage(
    scene: Scene, way: str
) -> None:
    """Torn and whole appends between and amid questions: never a 500, and all right at the end."""
    series = Series("coinbase", f"GROWING-{way}", "MD")
    paths = put(scene.root, {"time": times_of(NEXT_S), "price": marks(COUNT)}, NEXT, series)
    target = scene.target(CUT, series.symbol)
    session = TRANSPORTS[way].connect(scene.server)
    for index in range(COUNT, COUNT + 60):
        session.send(target)
        record = u32(NEXT_S + index // 2)
        append(paths["time"], record[: index % 4])
        append(paths["price"], u32(index))
        append(paths["time"], record[index % 4 :])
        assert session.receive().status == 200
    expected = naive_answer(scene.root, *series, *CUT, ("time", "price"))
    assert session.request(target).content == expected
    session.close()
