"""The tree of errors: statuses, whose fault, and the picture of it in the docstring."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus

import pytest

from tests.table import each
from zerocopy.core import errors
from zerocopy.core.errors import (
    ConfigError,
    DataChangedError,
    DataError,
    OverloadError,
    RequestError,
    ZerocopyError,
)

TREE = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, ZerocopyError)
]
STATUSES = {
    "BadRequestError": 400,
    "UnauthorizedError": 401,
    "NotFoundError": 404,
    "MethodNotAllowedError": 405,
    "PreconditionFailedError": 412,
    "TargetTooLongError": 414,
    "RangeError": 416,
    "ExpectationFailedError": 417,
    "UpgradeRequiredError": 426,
    "LimitedError": 429,
    "FieldsTooLargeError": 431,
    "NotInstalledError": 501,
    "UnknownCodingError": 501,
    "UnknownVersionError": 505,
    "DataError": 500,
    "DataChangedError": 500,
    "OverloadError": 503,
}


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_error_carries_its_detail_as_its_message(error: type[ZerocopyError]) -> None:
    """Logs and answers read the same sentence."""
    limit = {"policy": "requests", "quota": 1, "window_s": 1, "retry_s": 1}
    more = limit if error is errors.LimitedError else {}
    raised = error("parameter start: must be digits", **more)
    assert raised.detail == str(raised) == "parameter start: must be digits"
    assert raised.args == (raised.detail,)


@each(("name", "status"), STATUSES.items())
def test_error_has_the_status_that_fits(name: str, status: int) -> None:
    """The table of the contract, and a phrase for each status."""
    error: type[ZerocopyError] = getattr(errors, name)
    assert error.status == status
    assert HTTPStatus(error.status).phrase


def test_errors_are_split_by_whose_fault_it_is() -> None:
    """4xx are the client's, and so is speaking what we do not; all else is ours."""
    for error in TREE:
        is_clients = 400 <= error.status < 500 or error.status in {501, 505}
        assert issubclass(error, RequestError) == is_clients
    assert issubclass(DataChangedError, DataError)
    assert not issubclass(OverloadError, DataError)
    assert not issubclass(ConfigError, RequestError)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    """Every class stands there once, below its base, with its status where it has its own."""
    drawn: dict[str, str | None] = {}
    parents: list[str] = []
    for indent, name in re.findall(r"(?m)^([│├└─ ]*)(\w+Error)\b", errors.__doc__ or ""):
        depth = len(indent) // 4 - 1
        assert name not in drawn
        parents[depth:] = [name]
        drawn[name] = parents[depth - 1] if depth else None
    bases = {error.__name__: error.__base__ for error in TREE}
    assert drawn == {
        name: base.__name__ if base and base is not Exception else None
        for name, base in bases.items()
    }
    for name, status in re.findall(r"(\w+Error) .*?(\d{3})\b", errors.__doc__ or ""):
        assert STATUSES[name] == int(status)


def test_every_error_says_when_it_is_raised() -> None:
    """A docstring of its own for each."""
    assert all(error.__doc__ for error in TREE)
    assert len({error.__doc__ for error in TREE}) == len(TREE)
