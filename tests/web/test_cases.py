"""The JavaScript client against servers that its own tests play: each case of Node is one here."""

from __future__ import annotations

from functools import cache

import pytest

from tests.web import node

FILES = ("frames.test.mjs", "requests.test.mjs", "live.test.mjs", "keys.test.mjs")
CASES = [(name, case) for name in FILES for case in node.cases_of(name)]

outcomes = cache(node.outcomes)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[case for _, case in CASES])
def test_case(name: str, case: str) -> None:
    """What the case says of itself."""
    assert outcomes(name)[case] == ""
