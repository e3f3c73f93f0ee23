"""docs/states.py: the table of states in ARCHITECTURE.md is the one that the code asserts."""

from __future__ import annotations

from docs.states import main, table
from zerocopy.transport.http1.state import MOVES, State


def test_table_in_the_document_is_that_of_the_code() -> None:
    """`python -m docs.states` was run after the last move that changed."""
    assert main(["--check"]) == 0


def test_table_has_every_move() -> None:
    """Behind each state those that may come next, but CLOSED, which always may."""
    rows = table().splitlines()
    after = {row.split(" | ")[0]: row.rpartition(" | ")[2] for row in rows if " | " in row}
    for state in State:
        moves = [b.name for a, b in MOVES if a is state]
        assert after[f"| {state.name}"].rstrip(" |") == ", ".join(moves)
