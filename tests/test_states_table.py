"""docs/states.py: the table of states in ARCHITECTURE.md is the one that the code asserts."""

from __future__ import annotations

import pytest

from docs.states import BEGIN, END, main, replaced
from zerocopy.transport.http1.state import MOVES, State


def test_table_in_the_document_is_that_of_the_code() -> None:
    """`python docs/states.py` was run after the last move that changed."""
    assert main(["--check"]) == 0


def test_table_has_every_move() -> None:
    """Behind each state those that may come next, but CLOSED, which always may."""
    rows = replaced(f"{BEGIN}\n{END}\n").splitlines()
    after = {row.split(" | ")[0]: row.rpartition(" | ")[2] for row in rows if " | " in row}
    for state in State:
        moves = [b.name for a, b in MOVES if a is state]
        assert after[f"| {state.name}"].rstrip(" |") == ", ".join(moves)


def test_page_without_marks_is_refused() -> None:
    """Nothing is written into a page that has no place for it."""
    with pytest.raises(ValueError, match="lacks"):
        replaced("# Architecture\n")
