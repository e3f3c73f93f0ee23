"""A bar where somebody looks, and silence elsewhere."""

from __future__ import annotations

import io
import sys
import time

import pytest

from zerocopy.client import progress
from zerocopy.client.progress import Bar, showing


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In the place of standard error; pytest has replaced what a fixture would set."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_nothing_is_shown_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, no notebook; or no standard error at all, as in a service."""
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        for wanted in (None, True, False):
            with showing(wanted, "X") as shown:
                assert shown is None


def test_false_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal too."""
    terminal(monkeypatch)
    with showing(False, "X") as shown:
        assert shown is None


class Told(list[tuple[int, int | None]]):
    """What a user's function was called with."""

    def note(self, received: int, total: int | None) -> None:
        """Be called."""
        self.append((received, total))


def test_a_function_is_called_at_once_then_some_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever comes in between: a thousand reads in a second of this clock are twenty calls."""
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    told = Told()
    with showing(told.note, "X") as shown:
        assert shown is not None
        for received in range(1, 1_001):
            shown(received, 2_000)
            now_s += 0.001
        assert told[0] == (1, 2_000)
        assert len(told) in {20, 21}
        assert told == sorted(set(told))


@pytest.mark.parametrize("total", [3, None])
def test_a_function_is_called_once_with_the_whole(
    monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    """However soon after the call before, and where the length was not known until then."""
    monkeypatch.setattr(progress, "PACE_S", float("inf"))
    told = Told()
    with showing(told.note, "X") as shown:
        assert shown is not None
        for received in (1, 2):
            shown(received, total)
        for _ in range(2):
            shown(3, 3)
    assert told == [(1, total), (3, 3)]


def test_a_short_transfer_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over before anybody looks."""
    stream = terminal(monkeypatch)
    with showing(None, "X") as shown:
        assert isinstance(shown, Bar)
        shown(1, 2)
    assert not stream.getvalue()


def test_a_transfer_that_lasts_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its title, and it is taken away at the end."""
    stream = terminal(monkeypatch)
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    with showing(None, "BTC-USD") as shown:
        assert shown is not None
        shown(500_000, 1_000_000)
        shown(1_000_000, 1_000_000)
    assert "BTC-USD" in stream.getvalue()


def test_a_bar_is_drawn_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each of the 16,000 reads in which a gigabyte comes over TLS."""
    terminal(monkeypatch)
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "PACE_S", float("inf"))
    drawn: list[int] = []
    with showing(None, "X") as shown:
        assert isinstance(shown, Bar)
        shown(1, 4)
        shown._progress.update = lambda _, completed, **_others: drawn.append(completed)
        for received in (2, 3, 4):
            shown(received, 4)
    assert drawn == [4]
