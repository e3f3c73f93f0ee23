"""A table in one test: every row is tried, and a failure names its row."""

from __future__ import annotations

import inspect

import pytest

from tests.table import case, each


def test_each_row_is_tried_with_the_fixtures() -> None:
    """Rows of one column and of several, and tables within each other."""
    seen = []

    @each("size", [1, 2])
    @each(("name", "value"), [("a", 1.5), ("b", 2.5)])
    def test(fixture: str, name: str, value: float, size: int) -> None:
        seen.append((fixture, name, value, size))

    assert [*inspect.signature(test).parameters] == ["fixture"], "pytest gives what is left"
    test(fixture="f")
    assert seen == [("f", "a", 1.5, 1), ("f", "b", 2.5, 1), ("f", "a", 1.5, 2), ("f", "b", 2.5, 2)]


def test_failure_names_its_row() -> None:
    """Beneath the error, which stays what it is."""

    @each("number", [1, 0])
    def test(number: int) -> None:
        assert number

    with pytest.raises(AssertionError) as failure:
        test()
    assert failure.value.__notes__ == ["case: number=0"]
    with pytest.raises(ZeroDivisionError) as fault, case("any", "words"):
        raise ZeroDivisionError
    assert fault.value.__notes__ == ["case: any words"]


@pytest.mark.parametrize("rows", [[], [pytest.param(1, id="one")]])
def test_table_that_would_prove_nothing_is_refused(rows: list[object]) -> None:
    """Without rows, or with what only pytest unpacks."""
    with pytest.raises(AssertionError):
        each("number", rows)(lambda _number: None)
