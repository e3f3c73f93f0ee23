"""Server-sent events: what a parser of the standard makes of them."""

from __future__ import annotations

import orjson

from tests.eventstream import Event, EventSource
from zerocopy.formats import events


def test_opening_sets_the_last_event_id_and_the_time_to_retry() -> None:
    """Before any record, and without an event: a client that is cut off now goes on from here."""
    source = EventSource()
    assert source.feed(events.opening("20250131.7")) == []
    assert (source.last_event_id, source.retry_ms) == ("20250131.7", events.RETRY_MS)


def test_records_are_one_event_with_the_cursor_behind_them() -> None:
    """The data is the document itself, in one line."""
    document = '{"columns":{"time":[1,2]},"num_records":2}'
    source = EventSource()
    found = source.feed(events.records("20250131.9", document.encode()))
    assert found == [Event("records", document, "20250131.9")]


def test_reset_says_why_and_where_the_day_begins() -> None:
    """In the data for a program, and as the id for a browser that asks again by itself."""
    source = EventSource()
    [event] = source.feed(events.reset("20250131.0", "the day was replaced"))
    assert (event.kind, source.last_event_id) == ("reset", "20250131.0")
    assert orjson.loads(event.data) == {"reason": "the day was replaced", "cursor": "20250131.0"}
