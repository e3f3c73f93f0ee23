"""Honest requests of a soak, one function a kind; each checks its answer to the byte.

A kind is given the world, a session of any transport and a source of chance; it returns what is to
be counted and raises AssertionError at anything that is not right.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.certificate import is_cut_off
from tests.contract.recorder import COLUMNS
from tests.contract.site import data_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.contract.transports import Session
    from tests.server import Answer
    from tests.slow.world import Moving, Question, World

BAD_TARGETS = {
    "/api/data?symbol=SMALL&type=MD&start=5&end=4&columns=time&exchange=still": 400,
    "/api/data?symbol=SMALL&type=MD&start=0&end=4294967296&columns=time&exchange=still": 400,
    "/api/data?symbol=..&type=MD&start=0&end=9&columns=time": 400,
    "/api/data?symbol=SMALL&type=MD&start=0&end=9&columns=time,time&exchange=still": 400,
    "/api/data?symbol=NOBODY&type=MD&start=0&end=9&columns=time": 404,
    "/api/data?symbol=SMALL&type=MD&start=0&end=9&columns=nothing&exchange=still": 404,
    "/nowhere": 404,
    "/api/data?" + "a" * 9_000: 414,
}


class Aborted(Exception):  # noqa: N818 - an outcome that the contract allows, not an error
    """The server cut an answer of a file that changed; the session is of no more use."""


def still(world: World, session: Session, chance: Random) -> int:
    """Whole answers of every size."""
    question = chance.choice([*world.small * 4, *world.medium, world.many_part])
    return _whole(question, session.request(question.target))


def bulk(world: World, session: Session, chance: Random) -> int:
    """The largest answers."""
    question = chance.choice([world.large, world.many])
    return _whole(question, session.request(question.target))


def head(world: World, session: Session, chance: Random) -> int:
    """HEAD has the length and no content."""
    question = chance.choice(world.still)
    answer = session.request(question.target, method="HEAD")
    assert answer.status == 200
    assert answer.content == b""
    assert int(answer.fields["content-length"]) == len(question.body)
    return answer.status


def one_range(world: World, session: Session, chance: Random) -> int:
    """A part of any answer, or 416 where there is none."""
    question = chance.choice(world.still)
    size = len(question.body)
    if chance.random() < 0.1:
        answer = session.request(question.target, fields=[("Range", f"bytes={size}-")])
        assert answer.status == 416
        assert answer.fields["content-range"] == f"bytes */{size}"
        return answer.status
    first = chance.randrange(size)
    last = min(size - 1, first + chance.choice([0, 10, 5_000, 200_000]))
    answer = session.request(question.target, fields=[("Range", f"bytes={first}-{last}")])
    assert answer.status == 206
    assert answer.fields["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.content == question.body[first : last + 1]
    return answer.status


def many_ranges(world: World, session: Session, chance: Random) -> int:
    """Parts that do not touch, each as multipart/byteranges has it."""
    question = chance.choice([*world.medium, world.many, world.large])
    size = len(question.body)
    step = size // 8
    firsts = [step * index + chance.randrange(step // 2) for index in range(8)]
    pairs = [(first, first + chance.randrange(step // 4)) for first in firsts]
    spelled = ",".join(f"{first}-{last}" for first, last in pairs)
    answer = session.request(question.target, fields=[("Range", f"bytes={spelled}")])
    assert answer.status == 206
    mark = answer.fields["content-type"].removeprefix("multipart/byteranges; boundary=").encode()
    expected = b"".join(
        b"--%s\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
        % (mark, first, last, size)
        + question.body[first : last + 1]
        + b"\r\n"
        for first, last in pairs
    )
    assert answer.content == expected + b"--%s--\r\n" % mark, "parts are not those of the whole"
    return answer.status


def conditions(world: World, session: Session, chance: Random) -> int:
    """A tag that is had, one that is not, one that is demanded, one that a range depends on."""
    question = chance.choice([*world.small, *world.medium])
    tag = session.request(question.target, method="HEAD").fields["etag"]
    name, value, status = chance.choice(
        [
            ("If-None-Match", tag, 304),
            ("If-None-Match", '"another"', 200),
            ("If-Match", '"another"', 412),
            ("If-Match", tag, 200),
            ("If-Range", tag, 206),
            ("If-Range", '"another"', 200),
        ]
    )
    fields = [(name, value)] + [("Range", "bytes=0-9")] * (name == "If-Range")
    answer = session.request(question.target, fields=fields)
    assert answer.status == status, (name, value, answer.status)
    if status == 200:
        assert answer.content == question.body
    elif status == 206:
        assert answer.content == question.body[:10]
    return status


def refused(_world: World, session: Session, chance: Random) -> int:
    """What is wrong is told as a problem, and the connection goes on."""
    target, status = chance.choice(list(BAD_TARGETS.items()))
    answer = session.request(target)
    assert answer.status == status, (target, answer.status)
    assert answer.fields["content-type"] == "application/problem+json"
    assert json.loads(answer.content)["status"] == status
    return status


def others(_world: World, session: Session, chance: Random) -> int:
    """OPTIONS, a method that is not allowed, and the small resources."""
    method, target, status = chance.choice(
        [
            ("OPTIONS", "/api/data", 204),
            ("DELETE", "/api/data", 405),
            ("GET", "/healthz", 200),
            ("GET", "/readyz", 200),
            ("GET", "/openapi.json", 200),
        ]
    )
    answer = session.request(target, method=method)
    assert answer.status == status, (method, target, answer.status)
    return status


def symbols(world: World, session: Session, _chance: Random) -> int:
    """The list of what does not change is the oracle's."""
    answer = session.request("/api/symbols?exchange=still")
    assert answer.status == 200
    assert json.loads(answer.content) == world.symbols
    return answer.status


def narrow(world: World, session: Session, chance: Random) -> int:
    """Small answers of days that are replaced, removed and put back; none is ever cut off."""
    moving = chance.choice(world.narrow)
    return _moving(moving, session, chance)


def wide(world: World, session: Session, chance: Random) -> int:
    """The same of larger ones, which are sent in turns and may be cut off by a change."""
    try:
        return _moving(world.wide, session, chance)
    except OSError as error:
        if is_cut_off(error):
            raise Aborted from None
        raise
    except AssertionError as error:
        if "the stream was reset with 2" in str(error):
            raise Aborted from None
        raise


def live(world: World, session: Session, chance: Random) -> int | str:
    """Today's files while a recorder appends to them."""
    recording = world.live
    if recording is None:
        return "no recorder"
    columns = chance.choice([COLUMNS, ("order", "price"), ("id", "time"), ("time",)])
    target, first, flushed = recording.target(columns, is_tail=chance.random() < 0.7)
    answer = session.request(target)
    assert answer.status == 200, answer
    recording.check(answer, columns, first, flushed)
    return answer.status


def empty(_world: World, session: Session, _chance: Random) -> int:
    """A range before all records: columns without any."""
    answer = session.request(data_target(_world.narrow[0].series, 5, 6))
    assert answer.status in {200, 404}
    assert answer.status == 404 or answer.content.count(b'"num_records":0,') == 2
    return answer.status


KINDS: dict[Callable[[World, Session, Random], int | str], int] = {
    still: 30,
    bulk: 2,
    head: 4,
    one_range: 10,
    many_ranges: 3,
    conditions: 8,
    refused: 5,
    others: 4,
    symbols: 2,
    narrow: 20,
    wide: 8,
    live: 10,
    empty: 2,
}
"""Each kind and how often it comes."""


def _whole(question: Question, answer: Answer) -> int:
    assert answer.status == 200
    assert answer.content == question.body, f"not the bytes of {question.target}"
    return answer.status


def _moving(moving: Moving, session: Session, chance: Random) -> int:
    index = chance.randrange(len(moving.targets))
    asked_s = time.monotonic()
    answer = session.request(moving.targets[index])
    ended_s = time.monotonic()
    assert answer.status in {200, 404}, answer
    body = None if answer.status == 404 else answer.content
    assert moving.is_right(index, body, asked_s, ended_s), (
        f"{moving.series.symbol} was never so while it was asked for: {answer.content[:300]!r}"
    )
    return answer.status
