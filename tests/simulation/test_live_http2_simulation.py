"""Live streams over HTTP/2 in a simulated world: each reader gets each record once, all the same.

Event streams and WebSockets share connections with windows of few bytes, that open, shrink and
stay shut; streams are reset, connections lost, servers drained. One seed again:
`SIMULATION_SEED=N pytest tests/simulation/test_live_http2_simulation.py -k given`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.simulation.live_http2_run import RUNS, Http2LiveWorld, run, runs
from tests.simulation.runs import SEED_VARIABLE
from zerocopy.core.cursor import Cursor, Reset, next_step
from zerocopy.core.http.stream import GOING_AWAY
from zerocopy.service.live import feed
from zerocopy.transport.http2.feeds import FeedStreams
from zerocopy.transport.streaming import Stream
from zerocopy.transport.websocket.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.live_http2_client import Http2Client, Subscriber

    Patch = pytest.MonkeyPatch

SLOW_RUNS = 3_000


def test_no_run_loses_or_repeats_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that shut, resets, GOAWAY, closes of both sides, beside all that the files do.

    Among the runs are all of these, and both kinds of streams.
    """
    seen: set[str] = set()
    judge, begin = Http2LiveWorld.judge, FeedStreams._begin_body

    def note(world: Http2LiveWorld) -> list[str]:
        for client in cast("list[Http2Client]", world.clients):
            seen.update({"goaway"} if client.goaways else ())
            seen.update({"second connection"} if client.connections > 1 else ())
        for reader in cast("list[Subscriber]", world.readers):
            counts = {
                "websocket" if reader.has.is_websocket else "events": reader.has.messages,
                "closed by server": reader.drained,
                "closed by client": reader.closed,
                "pong": reader.answered,
                "reset": reader.has.resets,
                "second stream": reader.streams > 1,
            }
            seen.update(word for word, count in counts.items() if count)
        return judge(world)

    def begin_body(self: FeedStreams, stream_id: int, body: Any) -> None:
        seen.add("file" if body.segment_count else "waited for a window")
        begin(self, stream_id, body)

    monkeypatch.setattr(Http2LiveWorld, "judge", note)
    monkeypatch.setattr(FeedStreams, "_begin_body", begin_body)
    wrong = runs(range(RUNS))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen == {
        "goaway", "second connection", "websocket", "events", "closed by server",
        "closed by client", "pong", "reset", "second stream", "file", "waited for a window",
    }  # fmt: skip


def test_no_given_run_loses_a_record() -> None:
    """The run of the number in the environment, to see a failure again; else the first run."""
    outcome = run(int(os.environ.get(SEED_VARIABLE, "0")))
    assert not outcome.wrong, str(outcome)


def test_equal_seeds_are_equal_runs() -> None:
    """Two runs from one number make the same system calls with the same results."""
    assert run(1).trace == run(1).trace != run(2).trace


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_run_of_many_loses_a_record() -> None:
    """The same over many numbers."""
    wrong = runs(range(RUNS, SLOW_RUNS))
    assert not wrong, "\n".join(map(str, wrong[:20]))


def sends_again_what_waited_for_a_window(patch: Patch) -> None:
    """What did not fit the window is sent whole once that opens, and then once more."""
    whole = FeedStreams._begin_body

    def begin(self: FeedStreams, stream_id: int, body: Any) -> None:
        self._feeds[stream_id]._after += bytes(body._content)
        whole(self, stream_id, body)

    patch.setattr(FeedStreams, "_begin_body", begin)


def pulls_no_more_behind_a_body(patch: Patch) -> None:
    """Once what waited has left, nobody asks the feed for what came meanwhile."""
    whole = FeedStreams._sent_all

    def sent_all(self: FeedStreams, stream_id: int, *rest: Any) -> None:
        if self._is_last(stream_id):
            whole(self, stream_id, *rest)
            return
        rest[-1].close()
        self._bodies[stream_id] = None
        self.priority.block(stream_id)

    patch.setattr(FeedStreams, "_sent_all", sent_all)


def says_no_close_in_a_drain(patch: Patch) -> None:
    """The last message of a WebSocket is followed by END_STREAM alone."""

    def next_in_drain(self: Stream) -> Any:
        owed = self._owed()
        if owed is not None:
            return owed
        self._end(GOING_AWAY)
        return b""

    patch.setattr(Stream, "next_in_drain", next_in_drain)


def answers_no_close(patch: Patch) -> None:
    """A client that closes gets END_STREAM without a close frame."""
    whole = Inbox.replies

    def replies(self: Inbox) -> bytes:
        found = whole(self)
        return b"" if self.is_over else found

    patch.setattr(Inbox, "replies", replies)


def goes_on_one_short_after_a_reset(patch: Patch) -> None:
    """The cursor of a reset leaves out the first record of the day."""

    def step(*sight: Any) -> Any:
        found = next_step(*sight)
        return Reset(found.reason, Cursor(found.cursor.day, 1)) if type(found) is Reset else found

    patch.setattr(feed, "next_step", step)


def spends_no_window(patch: Patch) -> None:
    """What a small message takes of the connection's window is not counted."""
    whole = FeedStreams._write_piece

    def write(self: FeedStreams, stream_id: int, h2_stream: Any, piece: bytes, **rest: Any) -> None:
        self.connection.outbound_flow_control_window += len(piece)
        whole(self, stream_id, h2_stream, piece, **rest)

    patch.setattr(FeedStreams, "_write_piece", write)


def keeps_a_feed_whose_stream_was_reset(patch: Patch) -> None:
    """A client that gives a stream up goes on being counted and woken."""
    whole = FeedStreams._close_stream

    async def close(self: FeedStreams, stream_id: int) -> None:
        stream = self._feeds.get(stream_id)
        if stream is not None:
            stream._feed = None
        await whole(self, stream_id)

    patch.setattr(FeedStreams, "_close_stream", close)


MUTANTS = (
    (sends_again_what_waited_for_a_window, 2),
    (pulls_no_more_behind_a_body, 2),
    (says_no_close_in_a_drain, 2),
    (answers_no_close, 2),
    (goes_on_one_short_after_a_reset, 7),
    (spends_no_window, 4),
    (keeps_a_feed_whose_stream_was_reset, 5),
)
"""Each with a run that catches it; the others are tried where that changes."""


@pytest.mark.parametrize(
    ("mutant", "seed"), MUTANTS, ids=lambda each: getattr(each, "__name__", "")
)
def test_mutant_is_caught(
    mutant: Callable[[Patch], None], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulator that lets one of these live is too weak."""
    monkeypatch.setattr("tests.simulation.world.STEPS_MAX", 3_000)
    mutant(monkeypatch)
    assert any(run(number).wrong for number in (seed, *range(RUNS)))
