"""The form of a line: bounded, escaped, and still telling what matters."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.observe.log_format import (
    ITEMS_MAX,
    LINE_BYTES_MAX,
    TRACEBACK_CHARS_MAX,
    VALUE_CHARS_MAX,
    console_form,
    json_form,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=50,
)
EVENTS = st.fixed_dictionaries(
    {"event": st.just("asked"), "level": st.just("info"), "timestamp": st.just("now")},
    optional={"symbol": VALUES, "days": VALUES, "exception": st.text(max_size=5_000)},
)


def json_line(event: dict[str, Any]) -> bytes:
    """The line of an event, for machines."""
    return json_form(None, "info", event)


@given(EVENTS)
def test_any_event_is_one_short_line_of_printable_json(event: dict[str, Any]) -> None:
    """Nothing that a value holds breaks the line, leaves ASCII or makes it longer than PIPE_BUF."""
    line = json_line(event)
    assert line.endswith(b"\n")
    assert len(line) <= LINE_BYTES_MAX
    assert all(32 <= byte < 127 for byte in line[:-1])
    assert json.loads(line)["event"] == "asked"


@given(event=EVENTS, colors=st.booleans())
def test_any_event_is_readable_on_a_terminal(event: dict[str, Any], *, colors: bool) -> None:
    """Only our own colors and line feeds are control characters; more lines are indented."""
    line = console_form(colors=colors)(None, "info", event)
    assert len(line) <= LINE_BYTES_MAX
    first, *more = line[:-1].split(b"\n")
    assert first.count(b"\x1b") == (2 if colors else 0)
    assert b"asked" in first
    assert all(part.startswith(b"    | ") for part in more)
    assert all(32 <= byte < 127 or byte in b"\n\x1b" for byte in line)


def test_long_values_are_cut() -> None:
    """Of a text and a list the beginning stays, of a traceback the end, where the error is."""
    event = json.loads(
        json_line(
            {
                "event": "e",
                "text": "a" * 10_000,
                "items": ["b"] * 100,
                "exception": "c" * 10_000 + "the end",
            }
        )
    )
    assert event["text"] == "a" * VALUE_CHARS_MAX + "..."
    assert event["items"] == ["b"] * ITEMS_MAX + ["..."]
    assert event["exception"].startswith("...")
    assert event["exception"].endswith("the end")
    assert len(event["exception"]) == TRACEBACK_CHARS_MAX + 3


def test_line_that_is_too_long_loses_of_its_longest_value() -> None:
    """Short values stay whole, whatever a long one costs in its escaped form."""
    many = {f"field{number}": "\u2028" * VALUE_CHARS_MAX for number in range(5)}
    line = json_line({"event": "e", "id": "kept", **many})
    assert len(line) <= LINE_BYTES_MAX
    assert json.loads(line)["id"] == "kept"
    assert all(json.loads(line)[name].startswith("\u2028") for name in many)


@each(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("/api/data?a", "/api/data?a"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('a"b', '"a\\"b"'),
        ("\x1b[2J\x7f", '"\\u001b[2J\\u007f"'),
        (3, "3"),
        (None, "null"),
        (["a", 1], '["a", 1]'),
    ],
)
def test_value_for_people_is_quoted_where_it_could_mislead(value: object, shown: str) -> None:
    """A blank or an equals sign could pass for another field."""
    line = console_form(colors=False)(None, "info", {"event": "e", "key": value})
    assert line.decode().rstrip("\n").endswith(f" key={shown}")
