"""docs/events.md is the list of what is logged: nothing else, and nothing less."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error"}
ROW = re.compile(r"\| `([a-z_0-9]+)` \| ([a-z]+) \| (.*?) \| (.+) \|")
COMMON = {"request_id", "target", "key"}
"""Fields of any line about a request; the page's introduction tells of them."""


class Call(NamedTuple):
    """One place that logs: its event, level and fields, and whether it may have others."""

    place: str
    event: str
    level: str
    fields: frozenset[str]
    is_open: bool


@cache
def calls() -> list[Call]:
    """Every `_log.<level>("event", …)` of the package."""
    found = []
    for path in sorted((REPOSITORY / "zerocopy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_log"
            ):
                place = f"{path.name}:{node.lineno}"
                assert node.func.attr in LEVELS, place
                assert len(node.args) == 1, place
                assert isinstance(node.args[0], ast.Constant), f"{place}: not a fixed name"
                names = {keyword.arg for keyword in node.keywords if keyword.arg}
                fields = {"exception" if name == "exc_info" else name for name in names} - COMMON
                event = str(node.args[0].value)
                is_open = any(keyword.arg is None for keyword in node.keywords)
                found.append(Call(place, event, node.func.attr, frozenset(fields), is_open))
    return found


def documented() -> dict[str, tuple[str, set[str]]]:
    """Level and fields of each event of the table."""
    text = (REPOSITORY / "docs" / "events.md").read_text("utf-8")
    rows = [ROW.fullmatch(line) for line in text.splitlines() if line.startswith("| `")]
    assert all(rows), "a row that is none"
    return {row[1]: (row[2], set(re.findall(r"`([a-z_0-9]+)`", row[3]))) for row in rows if row}


def test_every_event_is_documented_and_every_documented_one_is_logged() -> None:
    """An event has a fixed name, which operators search for."""
    assert {call.event for call in calls()} == set(documented())


def test_each_event_has_the_level_and_the_fields_of_its_row() -> None:
    """A field that is not in the table would be found by chance only."""
    rows = documented()
    for call in calls():
        level, fields = rows[call.event]
        assert call.level == level, call
        assert call.fields <= fields, call
        assert call.is_open or call.fields == fields, call


def test_events_are_in_order() -> None:
    """Who looks one up finds it."""
    events = list(documented())
    assert events == sorted(events)
