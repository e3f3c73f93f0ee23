"""Garbage in a time column: a 500 that names the day and no path, or every record asked for."""

from __future__ import annotations

import json
import os
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, serve
from tests.contract.transports import TRANSPORTS
from tests.storage.trees import DAY, DAY_START_S, age, append, marks, path_of, put, replace, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 3_000
NEXT = DAY + timedelta(days=1)
NEXT_S = DAY_START_S + 86_400
RUINED = Series("coinbase", "RUINED", "MD")
CUT = NEXT_S + 1, NEXT_S + COUNT
WHOLE = DAY_START_S, NEXT_S + 86_399


@pytest.fixture(scope="module", params=TRANSPORTS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server over two days, of which a test may ruin the second."""
    root = str(tmp_path_factory.mktemp("unsorted"))
    for day, start_s in ((DAY, DAY_START_S), (NEXT, NEXT_S)):
        put(root, {"time": times_of(start_s), "price": marks(COUNT)}, day, RUINED)
    with serve(TRANSPORTS[request.param], root) as running:
        yield running


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


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_times_are_a_500_that_names_the_day(site: Site, garbage: str) -> None:
    """The client learns the day, the log the file; other days are served, and so is a repair."""
    path = path_of(site.root, "time", NEXT, RUINED)
    replace(path, GARBAGE[garbage])
    try:
        for _ in range(2):
            answer = site.data(RUINED, CUT[0], CUT[1])
            assert answer.status == 500
            assert answer.fields["content-type"] == "application/problem+json"
            detail = json.loads(answer.content)["detail"]
            assert detail == f"the times of {NEXT:%d.%m.%y} are not sorted"
            assert answer.fields["cache-control"] == "no-store"
        first = DAY_START_S, DAY_START_S + 86_399
        assert site.data(RUINED, *first).content == site.expected(RUINED, *first)
        errors = [each for each in site.server.events() if each["event"] == "data_error"]
        assert errors[-1]["detail"] == detail
        assert path in errors[-1]["cause"]
    finally:
        replace(path, times_of(NEXT_S))
    for ends in (CUT, WHOLE):
        assert site.data(RUINED, *ends).content == site.expected(RUINED, *ends)


def test_answer_given_before_a_day_was_ruined_is_not_given_again(site: Site) -> None:
    """Kept, proved, then garbage is written over it in place: 500, and after the repair 200."""
    path = path_of(site.root, "time", NEXT, RUINED)
    age(path, path_of(site.root, "price", NEXT, RUINED), os.path.dirname(path))
    with site.session() as session:
        target = f"/api/data?symbol=RUINED&type=MD&start={CUT[0]}&end={CUT[1]}&columns=price"
        expected = site.expected(RUINED, *CUT, ["price"])
        for _ in range(3):
            assert session.request(target).content == expected
        with open(path, "r+b") as file:
            file.write(GARBAGE["reversed"])
        assert session.request(target).status == 500
        with open(path, "r+b") as file:
            file.write(times_of(NEXT_S))
        assert session.request(target).content == expected


def test_recorder_that_appends_while_it_is_asked_is_never_taken_for_garbage(site: Site) -> None:
    """Torn and whole appends between and amid questions: never a 500, and all right at the end."""
    series = Series("coinbase", "GROWING", "MD")
    paths = put(site.root, {"time": times_of(NEXT_S), "price": marks(COUNT)}, NEXT, series)
    with site.session() as session:
        for index in range(COUNT, COUNT + 60):
            target = f"/api/data?symbol=GROWING&type=MD&start={CUT[0]}&end={CUT[1]}&columns=price"
            session.send(target)
            record = u32(NEXT_S + index // 2)
            append(paths["time"], record[: index % 4])
            append(paths["price"], u32(index))
            append(paths["time"], record[index % 4 :])
            assert session.receive().status == 200
        assert session.request(target).content == site.expected(series, *CUT, ["price"])
