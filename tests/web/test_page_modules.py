"""The parts of the page that need no browser: each case of Node is one here."""

from __future__ import annotations

from functools import cache

import pytest

from tests.web import node

NAME = "page.test.mjs"
outcomes = cache(node.outcomes)


@pytest.mark.parametrize("case", node.cases_of(NAME))
def test_case(case: str) -> None:
    """What the case says of itself."""
    assert outcomes(NAME)[case] == ""
