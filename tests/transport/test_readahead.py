"""`ReadAhead`: nothing leaves that is not ready; windows are in order, one ahead of the sender."""

from __future__ import annotations

import random

import pytest

from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment
from zerocopy.core.window import WINDOW_SLICES_MAX
from zerocopy.transport.readahead import ReadAhead


class FakeSource:
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
        ahead.done(window)
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
    ahead.done(window)
    assert ahead.next_window(0, 0) is None


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
    ahead.done(first)
    second = ahead.next_window(0, 0)
    assert second is not None
    ahead.done(second, DataChangedError("a day file changed"))
    assert ahead.allowed(0, 0, 30) == 10
    with pytest.raises(DataChangedError):
        ahead.allowed(0, 10, 30)


def test_stalled_client_is_asked_for_again() -> None:
    """What a thread read long ago may be gone."""
    ahead = ReadAhead(cold(30), 20)
    assert ahead.allowed(0, 0, 30) == 0
    window = ahead.next_window(0, 0)
    assert window is not None
    ahead.done(window)
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
    ahead.done(window)
    assert ahead.allowed(0, 0, 30) == 0


@pytest.mark.parametrize("seed", range(50))
def test_every_byte_is_windowed_or_ready_and_in_order(seed: int) -> None:
    """Random segments, readiness and turns: it gets to the end, windows do not overlap."""
    rng = random.Random(seed)
    segments = [
        Segment(FakeSource(rng.choice((0, 0, 5, 99))), rng.randrange(9), rng.randint(1, 40))
        for _ in range(rng.randint(1, 12))
    ]
    ahead = ReadAhead(segments, rng.choice((1, 7, 100)))
    index = position = steps = 0
    last = (0, 0)
    while index < len(segments):
        steps += 1
        assert steps < 10_000, "it gets on"
        want = min(rng.randint(1, 20), segments[index].count - position)
        position += ahead.allowed(index, position, want)
        window = ahead.next_window(index, position)
        if window is not None:
            assert window.start >= last
            last = window.stop
            window.has_waited = rng.random() < 0.7
            ahead.done(window)
        if position == segments[index].count:
            index, position = index + 1, 0
