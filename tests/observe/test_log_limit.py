"""How often one event may be logged."""

from __future__ import annotations

import time

import pytest
from structlog import DropEvent

from zerocopy.observe.log_limit import RateLimit


def passes(limit: RateLimit, event: str) -> bool:
    """Whether a line of `event` is written."""
    try:
        return bool(limit(None, "error", {"event": event})["event"] == event)
    except DropEvent:
        return False


def test_event_above_its_rate_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event has its own bound, in each second anew; what was left out is told once."""
    now_s = 100.5
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    limit = RateLimit(3)
    assert [passes(limit, "a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert passes(limit, "b")
    now_s = 101.0
    assert [passes(limit, "a") for _ in range(4)] == [True] * 3 + [False]
    assert limit.take_suppressed() == {"a": 3}
    assert limit.take_suppressed() == {}


@pytest.mark.parametrize("event", ["request", "lines_suppressed", "lines_dropped"])
def test_access_lines_and_what_tells_of_losses_have_no_bound(event: str) -> None:
    """The one has its own switch, the others come once a second."""
    limit = RateLimit(1)
    assert all(passes(limit, event) for _ in range(100))
    assert limit.take_suppressed() == {}
