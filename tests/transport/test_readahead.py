"""`ReadAhead`: nothing leaves that is not ready; windows are in order, one ahead of the sender."""

from __future__ import annotations

import random

import pytest

from tests.sources import Scatters
from zerocopy.core import window as window_module
from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment
from zerocopy.core.window import (
    GATHERED_BYTES_MAX,
    TINY_BYTES,
    TINY_RUN,
    WINDOW_SLICES_MAX,
    Window,
    place_after,
)
from zerocopy.transport.readahead import ReadAhead


class FakeSource(Scatters):
    """Bytes of which those below `there` are ready."""

    def __init__(self, there: int = 0) -> None:
        self.there = there

    def fileno(self) -> int:
        """Never asked."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked."""
        raise AssertionError((offset, count))

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """What is below `there`."""
        return max(0, min(count, self.there - offset))

    def view(self, offset: int, count: int) -> memoryview:
        """Never asked."""
        raise AssertionError((offset, count))


def cold(*counts: int) -> list[Segment]:
    """Segments of which nothing is ready."""
    return [Segment(FakeSource(), 0, count) for count in counts]


def test_ready_bytes_leave_without_a_window() -> None:
    """A warm answer asks for nothing, and no more leaves than is there."""
    ahead = ReadAhead([Segment(FakeSource(70), 0, 100)], 200)
    assert ahead.allowed(0, 0, 40) == 40
    assert ahead.allowed(0, 40, 60) == 30
    assert ahead.next_window(0, 40) is None


def test_windows_are_one_ahead_of_the_sender() -> None:
    """The second is read while the first is sent, the third once the second is being sent."""
    ahead = ReadAhead(cold(100), 10)
    assert ahead.allowed(0, 0, 100) == 0
    for start in range(0, 100, 10):
        window = ahead.next_window(0, max(0, start - 10))
        assert window is not None
        assert (window.start, window.slices[0].offset) == ((0, start), start)
        assert ahead.next_window(0, max(0, start - 10)) is None
        window.has_waited = True
        ahead.on_prepared(window)
        if start:
            assert ahead.next_window(0, start - 1) is None
        assert ahead.allowed(0, start, 100 - start) == 10
    assert ahead.next_window(0, 90) is None


def test_window_that_waited_for_nothing_is_the_last() -> None:
    """Where all is in memory again the sender asks for itself."""
    ahead = ReadAhead(cold(100), 10)
    assert ahead.allowed(0, 0, 5) == 0
    window = ahead.next_window(0, 0)
    assert window is not None
    ahead.on_prepared(window)
    assert ahead.next_window(0, 0) is None


@pytest.mark.usefixtures("nothing_is_tiny")
def test_window_has_a_bound_of_slices_and_of_bytes() -> None:
    """Many small segments end it by their number."""
    ahead = ReadAhead(cold(*[1] * 200), 1 << 20)
    assert ahead.allowed(0, 0, 1) == 0
    window = ahead.next_window(0, 0)
    assert window is not None
    assert len(window.slices) == WINDOW_SLICES_MAX
    assert window.stop == (WINDOW_SLICES_MAX, 0)


def test_error_is_raised_where_its_window_begins() -> None:
    """What was ready before it still leaves."""
    ahead = ReadAhead(cold(30), 10)
    assert ahead.allowed(0, 0, 30) == 0
    first = ahead.next_window(0, 0)
    assert first is not None
    first.has_waited = True
    ahead.on_prepared(first)
    second = ahead.next_window(0, 0)
    assert second is not None
    ahead.on_prepared(second, DataChangedError("a day file changed"))
    assert ahead.allowed(0, 0, 30) == 10
    with pytest.raises(DataChangedError):
        ahead.allowed(0, 10, 30)


def test_stalled_client_is_asked_for_again() -> None:
    """What a thread read long ago may be gone."""
    ahead = ReadAhead(cold(30), 20)
    assert ahead.allowed(0, 0, 30) == 0
    window = ahead.next_window(0, 0)
    assert window is not None
    ahead.on_prepared(window)
    assert ahead.allowed(0, 5, 30) == 15
    ahead.expire()
    assert ahead.allowed(0, 5, 30) == 0
    again = ahead.next_window(0, 5)
    assert again is not None
    assert again.start == (0, 5)


def test_cancelled_window_tells_its_thread_and_changes_nothing() -> None:
    """A client that left; what its thread says later is not heard."""
    ahead = ReadAhead(cold(30), 20)
    assert ahead.allowed(0, 0, 30) == 0
    window = ahead.next_window(0, 0)
    assert window is not None
    ahead.cancel()
    assert window.is_cancelled
    ahead.on_prepared(window)
    assert ahead.allowed(0, 0, 30) == 0


@pytest.mark.parametrize("seed", range(50))
def test_every_byte_is_gathered_windowed_or_ready_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random segments, readiness and turns: it gets to the end, windows do not overlap."""
    rng = random.Random(seed)
    monkeypatch.setattr(window_module, "TINY_BYTES", rng.choice((0, 10, 100)))
    monkeypatch.setattr(window_module, "TINY_RUN", rng.choice((1, 2, 4)))
    segments = [
        Segment(FakeSource(rng.choice((0, 0, 5, 99))), rng.randrange(9), rng.randint(1, 40))
        for _ in range(rng.randint(1, 12))
    ]
    ahead = ReadAhead(segments, rng.choice((1, 7, 100)))
    place, last, steps = (0, 0), (0, 0), 0
    while place[0] < len(segments):
        steps += 1
        assert steps < 10_000, "it gets on"
        content = ahead.content(*place)
        if content is not None:
            count = min(rng.randint(1, 20), len(content))
            ahead.advance_gathered(count)
        else:
            want = min(rng.randint(1, 20), segments[place[0]].count - place[1])
            count = ahead.allowed(*place, want)
        place = place_after(segments, place, count)
        window = ahead.next_window(*place)
        if window is not None:
            assert window.start >= last
            last = window.stop
            assert all(piece.count for piece in window.slices)
            nbytes = sum(piece.count for piece in window.slices)
            window.content = memoryview(bytes(nbytes if window.gathers else 0))
            window.has_waited = rng.random() < 0.5
            ahead.on_prepared(window)
        if rng.random() < 0.05:
            ahead.expire()
            last = place


def gather(ahead: ReadAhead, index: int, position: int, *, waited: bool = False) -> Window:
    """What a thread does: the bytes of each slice, here its number in the answer."""
    window = ahead.next_window(index, position)
    assert window is not None
    assert window.gathers
    window.content = memoryview(b"".join(bytes(piece.count) for piece in window.slices))
    window.has_waited = waited
    ahead.on_prepared(window)
    return window


def test_run_of_tiny_segments_waits_for_a_thread_even_where_all_is_ready() -> None:
    """Warm ones are gathered too; what is there is given from its place on, and only once."""
    ahead = ReadAhead([Segment(FakeSource(9), 0, 3) for _ in range(TINY_RUN)], 1 << 20)
    assert ahead.content(0, 0) is None
    assert ahead.allowed(0, 0, 3) == 0
    gather(ahead, 0, 0)
    content = ahead.content(0, 0)
    assert content is not None
    assert len(content) == 3 * TINY_RUN
    ahead.advance_gathered(4)
    rest = ahead.content(1, 1)
    assert rest is not None
    assert len(rest) == 3 * TINY_RUN - 4
    ahead.advance_gathered(len(rest))
    assert ahead.content(TINY_RUN, 0) is None
    assert ahead.next_window(TINY_RUN, 0) is None


def test_few_tiny_segments_leave_one_by_one() -> None:
    """Less than a run is sent sooner than a thread would be woken."""
    ahead = ReadAhead([Segment(FakeSource(9), 0, 3) for _ in range(TINY_RUN - 1)], 1 << 20)
    assert ahead.allowed(0, 0, 3) == 3
    assert ahead.next_window(0, 0) is None


def test_gathered_bytes_are_bounded_and_shared() -> None:
    """What all answers may have, divided among a connection's; a tiny segment at the least."""
    segments = cold(*[TINY_BYTES] * 100)
    for sharers in (1, 4, 100):
        ahead = ReadAhead(segments, 1 << 24)
        assert ahead.allowed(0, 0, 1) == 0
        window = ahead.next_window(0, 0, sharers, 64, 200_000)
        assert window is not None
        nbytes = sum(piece.count for piece in window.slices)
        assert nbytes == max(TINY_BYTES, 200_000 // sharers)


def test_run_that_has_begun_is_gathered_to_its_end() -> None:
    """The last ones of a run, fewer than begin one, do not leave one by one."""
    ahead = ReadAhead(cold(*[TINY_BYTES] * (TINY_RUN + 3)), 1 << 20)
    place, windows = (0, 0), 0
    while place != (TINY_RUN + 3, 0):
        assert ahead.allowed(*place, 1) == 0
        window = gather(ahead, *place)
        ahead.advance_gathered(len(window.content))
        place = window.stop
        windows += 1
    assert windows == -(-(TINY_RUN + 3) * TINY_BYTES // GATHERED_BYTES_MAX)


def test_no_window_is_empty() -> None:
    """Behind a cold window that left in one turn a warm segment was told ready to its last byte.

    What is read next begins with the segment behind it, not with nothing of this one.
    """
    sources = [FakeSource(), FakeSource(100), FakeSource()]
    ahead = ReadAhead([Segment(source, 0, 100) for source in sources], 100)
    assert ahead.allowed(0, 0, 100) == 0
    first = ahead.next_window(0, 0)
    assert first is not None
    first.has_waited = True
    ahead.on_prepared(first)
    assert ahead.allowed(0, 0, 100) == 100
    assert ahead.allowed(1, 0, 10) == 10
    second = ahead.next_window(1, 10)
    assert second is not None
    assert second.start == (2, 0)
    assert sum(piece.count for piece in second.slices) == 100


def test_gathered_bytes_wait_for_their_turn_behind_what_is_sent_before() -> None:
    """A window that was gathered ahead, from the disk, gives nothing to who is not there yet."""
    ahead = ReadAhead(cold(TINY_BYTES + 1, *[5] * TINY_RUN), 1 << 20)
    assert ahead.allowed(0, 0, 9) == 0
    first = ahead.next_window(0, 0)
    assert first is not None
    assert not first.gathers
    assert first.stop == (1, 0)
    first.has_waited = True
    ahead.on_prepared(first)
    gather(ahead, 0, 0, waited=True)
    assert ahead.content(0, TINY_BYTES) is None
    assert ahead.allowed(0, TINY_BYTES, 1) == 1
    assert ahead.content(1, 0) is not None


def test_client_that_stalls_or_leaves_keeps_no_gathered_bytes() -> None:
    """They are read again for one that goes on, from where it is."""
    for forget in (ReadAhead.expire, ReadAhead.cancel):
        ahead = ReadAhead(cold(*[10] * TINY_RUN * 2), 1 << 20)
        assert ahead.allowed(0, 0, 10) == 0
        gather(ahead, 0, 0)
        ahead.advance_gathered(13)
        forget(ahead)
        assert ahead.content(1, 3) is None
    again = ReadAhead(cold(*[10] * TINY_RUN * 2), 1 << 20)
    assert again.allowed(0, 0, 10) == 0
    gather(again, 0, 0)
    again.advance_gathered(13)
    again.expire()
    assert again.allowed(1, 3, 7) == 0
    window = gather(again, 1, 3)
    assert (window.start, window.slices[0].offset, window.slices[0].count) == ((1, 3), 3, 7)
