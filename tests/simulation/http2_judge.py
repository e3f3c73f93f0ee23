"""What a client of a run may have been told: every stream, against every state of the files.

Owns the verdict. An answer must be right for a version of the tree between the arrival of its
request and its head; an error, a reset or silence must have a cause that the run knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.simulation.answers import Reply, is_answer
from tests.simulation.http2_tree import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.h2client import Stream
    from tests.simulation.http2_build import Built
    from tests.simulation.http2_kinds import Kind, Right
    from tests.simulation.http2_nature import Nature
    from tests.simulation.http2_tree import Tree

CONDITIONAL_ERRORS = frozenset({412, 416})
ERRORS_OF_FILES = frozenset({404, 500, 503})
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM = 0, 2, 7
QUERIES = (Asked(), Asked(("price", "id", "time")))


class _Clients(Protocol):
    """Who was answered."""

    streams: dict[int, Stream]
    goaways: list[tuple[int, int]]


class Judged(Protocol):
    """What the verdict needs to know of a run."""

    disk_rng: Random
    nature: Nature
    tree: Tree
    built: Built
    asks: dict[int, Ask]
    faults: list[str]
    was_lost: bool
    is_leaving: bool

    @property
    def peer(self) -> _Clients:
        """Who was answered."""


@dataclass(slots=True)
class Ask:
    """A request: `offset` is where its head ends in what the client sends."""

    kind: Kind
    offset: int
    arrived_in: int | None = None
    answered_in: int | None = None
    faults_before: int = 0
    faults_at_head: int = 0
    fields: Sequence[tuple[str, str]] = ()


def judge(run: Judged) -> None:
    """Every stream of a run that is over."""
    if run.disk_rng.random() < 0.2:
        run.tree.check_oracle(QUERIES)
    assert all(code == NO_ERROR for code, _ in run.peer.goaways), run.peer.goaways
    for stream_id, stream in run.peer.streams.items():
        ask = run.asks[stream_id]
        try:
            _judge_stream(run, ask, stream)
        except AssertionError as error:
            story = f"stream {stream_id}, {ask.kind.name}, versions {ask.arrived_in} to"
            raise AssertionError(f"{story} {ask.answered_in}: {error}") from error


def _judge_stream(run: Judged, ask: Ask, stream: Stream) -> None:
    if stream.reset_code is not None:
        _judge_reset(run, ask, stream)
    elif not stream.is_ended:
        assert run.was_lost or run.is_leaving or stream.is_given_up, "no end"
    if not stream.status:
        return
    assert ask.arrived_in is not None, "answered before it came"
    assert ask.answered_in is not None
    fields = dict(stream.fields)
    if stream.is_ended and stream.reset_code is None:
        stream.answer()  # as long as it said
    length = int(fields.get("content-length", 0))
    assert stream.method == "HEAD" or len(stream.content) <= length
    if stream.status < 400 or stream.status in CONDITIONAL_ERRORS:
        _judge_content(run, ask, stream, length)
    elif stream.status not in _statuses(run, ask):
        raise AssertionError(f"status {stream.status} without a cause: {bytes(stream.content)!r}")


def _statuses(run: Judged, ask: Ask) -> set[int]:
    """The error statuses that have a cause."""
    first, last = ask.arrived_in or 0, ask.answered_in or 0
    right = {answer.status for answer in ask.kind.right(run.tree, first, last)}
    amid = any(version.is_amid for version in run.tree.versions[first + 1 : last + 1])
    if ask.faults_at_head > ask.faults_before or amid:
        right |= ERRORS_OF_FILES
    if run.built.in_flight_max < len(run.asks):
        right.add(503)
    return right


def _judge_reset(run: Judged, ask: Ask, stream: Stream) -> None:
    if stream.reset_code == NO_ERROR:
        assert stream.is_ended, "reset without an error before its end"
        assert ask.kind.content is not None, "reset though it had no content"
    elif stream.reset_code == REFUSED_STREAM:
        assert run.is_leaving
    else:
        assert stream.reset_code == INTERNAL_ERROR, f"reset with {stream.reset_code}"
        changed = run.tree.now > (ask.arrived_in or 0)
        assert changed or len(run.faults) > ask.faults_before, "aborted without a cause"


def _judge_content(run: Judged, ask: Ask, stream: Stream, length: int) -> None:
    """Every byte that came, against every right answer; what did not come was promised."""
    tree, content = run.tree, bytes(stream.content)
    first, last = ask.arrived_in or 0, ask.answered_in or 0
    if ask.kind.is_symbols and (run.faults or run.nature.amid):
        assert not stream.is_ended or isinstance(json.loads(content), dict)
        return
    if ask.kind.asked is not None and not tree.is_countable(first, last):
        return
    if ask.kind.asked is not None and ask.kind.status == 200:
        is_whole = stream.is_ended and stream.reset_code is None
        reply = Reply(stream.status, dict(stream.fields), content, length, is_whole)
        found = tree.found(ask.kind.asked, first, last)
        if any(one and is_answer(reply, one, stream.method, ask.fields) for one in found):
            return
        every = tree.found(ask.kind.asked, first, last)
        tags = [one and (one.etag, len(one.body)) for one in every]
        raise AssertionError(f"{reply} to {ask.fields} is none of {tags}")
    rights: list[Right] = []
    for right in ask.kind.right(tree, first, last):
        rights.append(right)
        if right.status != stream.status:
            continue
        if right.content is None:
            return
        is_prefix = stream.method == "HEAD" or right.content.startswith(content)
        if length == len(right.content) and is_prefix:
            return
    told = [(right.status, right.content and right.content[:200]) for right in rights]
    raise AssertionError(f"{stream.status} {length} {content[:200]!r} is none of {told}")
