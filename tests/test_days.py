"""No test asks the clock which day it is: a server asks it again, and by then it may be another.

A test that needs a day which is written now takes `OPEN_DAY` of `tests/storage/trees.py`, one that
uses up what may be had in a day the fixture `whole_day`.
"""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
DAYS = {"DAY_S", "86400"}
CLOCKS = ("time.time(", ".now(", "now_s", "began_s")
ALLOWED = {
    "tests/conftest.py": "what is left of the day, which is waited for",
    "tests/contract/test_fields.py": "days that are open on both sides of midnight",
    "tests/ingest/verifying/test_repair.py": "the clock that is given is that of the files",
    "tests/storage/store/test_following.py": "the clock is one that the test gives",
    "tests/web/market.py": "the page shows how old the newest record is; its day stays one",
    "tests/commands/development/test_recorder.py": "the day is given to what records",
}


def asks_for_day(node: ast.AST) -> bool:
    """Whether an expression makes a day out of the time of the clock."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        return name == "today" or (name == "date" and is_of_clock(node.func.value))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.FloorDiv, ast.Mod)):
        return ast.unparse(node.right) in DAYS and is_of_clock(node.left)
    return False


def is_of_clock(node: ast.expr) -> bool:
    """Whether an expression has the time of the clock in it, by the names that tests give it."""
    return any(name in ast.unparse(node) for name in CLOCKS)


def asking(module: str) -> list[str]:
    """Each place of a module that asks for the day."""
    if not any(name in module for name in (*CLOCKS, ".today(")):
        return []
    return [ast.unparse(node) for node in ast.walk(ast.parse(module)) if asks_for_day(node)]


def test_no_test_asks_the_clock_which_day_it_is() -> None:
    """But those that are right on both sides of midnight, each with its reason."""
    found: dict[str, list[str]] = {}
    for path in TESTS.rglob("*.py"):
        if places := asking(path.read_text()):
            found[str(path.relative_to(TESTS.parent))] = places
    assert found.keys() == ALLOWED.keys(), found


def test_each_way_to_ask_is_seen() -> None:
    """The ways that tests had; seconds are nobody's matter."""
    for text in (
        "datetime.now(UTC).date()",
        "date.today()",
        "int(time.time()) // DAY_S",
        "int(time.time()) // 86_400 * 86_400",
        "DAY_S - time.time() % DAY_S",
        "datetime.fromtimestamp(now_s, UTC).date()",
    ):
        assert asking(text), text
    for text in ("time.time() + 86_400", "datetime.now(UTC)", "now_s // 60", "DAY.today"):
        assert not asking(text), text
