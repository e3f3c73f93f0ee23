"""A bar where somebody looks, and silence elsewhere."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from zerocopy.client import progress
from zerocopy.client.progress import Bar, showing

if TYPE_CHECKING:
    import pytest


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


def test_a_function_is_called_instead() -> None:
    """As it is."""
    calls: list[tuple[int, int | None]] = []
    with showing(lambda *told: calls.append(told), "X") as shown:
        assert shown is not None
        shown(1, None)
    assert calls == [(1, None)]


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
    monkeypatch.setattr(progress, "DRAW_S", float("inf"))
    drawn: list[int] = []
    with showing(None, "X") as shown:
        assert isinstance(shown, Bar)
        shown(1, 4)
        shown._progress.update = lambda _, completed, **_others: drawn.append(completed)
        for received in (2, 3, 4):
            shown(received, 4)
    assert drawn == [4]
