"""Faults of the server: one ends the connection it happened on, no other, and is always logged."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


class Failing(Protocol):
    """Something that a fault ends."""

    def fail(self, error: Exception) -> None:
        """Log `error`, and end."""


P = ParamSpec("P")
F = TypeVar("F", bound=Failing)


def contained(method: Callable[Concatenate[F, P], None]) -> Callable[Concatenate[F, P], None]:
    """Have `method` call `fail` of its object instead of raising an `Exception`."""

    @wraps(method)
    def wrapper(self: F, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the caller goes on with the others
            self.fail(error)

    return wrapper
