"""A table of cases within one test: cheaper than a test for each, where they need the same things.

A test of its own costs three milliseconds of processor time before it does anything. The suite has
tables of thousands of cases that take a fraction of one.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING

from _pytest.mark.structures import ParameterSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@contextmanager
def case(*named: object) -> Iterator[None]:
    """Names the case beneath whatever fails in it.

    >>> for number in (1, 2):
    ...     with case("number", number):
    ...         assert number
    """
    try:
        yield
    except Exception as error:
        error.add_note(f"case: {' '.join(map(str, named))}")
        raise


def each(
    names: str | Sequence[str], rows: Iterable[object]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Written as `pytest.mark.parametrize` is, but all rows are one test; a failure names its row.

    All rows share the fixtures: for tests that leave them as they are.

    >>> @each(("number", "square"), [(1, 1), (2, 4)])
    ... def test_square(number: int, square: int) -> None:
    ...     assert number**2 == square
    """
    columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else [*names]
    table = [*rows]
    assert table, "a table without rows proves nothing"
    assert not any(isinstance(row, ParameterSet) for row in table), "pytest.param is for pytest"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)

        @functools.wraps(test)
        def of_all(**fixtures: object) -> None:
            for row in table:
                values = (row,) if len(columns) == 1 else row
                chosen = dict(zip(columns, values, strict=True))  # type: ignore[call-overload]
                with case(*(f"{name}={value!r}"[:200] for name, value in chosen.items())):
                    test(**fixtures, **chosen)

        left = [each for name, each in signature.parameters.items() if name not in columns]
        of_all.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return of_all

    return decorate
