"""Scopes, allowances and grants: words without keys, tokens or files."""

from __future__ import annotations

import math
import time

from tests.table import each
from zerocopy.core.access import Allowance, Grant, Scope


@each(
    ("patterns", "name", "matches"),
    [
        (("*",), "BTC-USD", True),
        (("BTC-*",), "BTC-USD", True),
        (("BTC-*",), "XBTC-USD", False),
        (("BTC-*",), "btc-usd", False),
        (("BTC-?SD",), "BTC-USD", True),
        (("[AB]TC-*", "ETH-*"), "ETH-EUR", True),
        (("[!B]*",), "BTC-USD", False),
        (("tAAVE:USD",), "tAAVE:USD", True),
        (("BRK.B",), "BRKxB", False),
        (("^GSPC",), "^GSPC", True),
        (("A+B",), "AAB", False),
        (("A",), "A\n", False),
        ((), "A", False),
    ],
)
def test_pattern_matches_the_whole_name_as_in_a_shell(
    patterns: tuple[str, ...], name: str, *, matches: bool
) -> None:
    """No character but * ? and brackets means more than itself, and case counts."""
    assert Scope(symbols=patterns).allows("x", name) is matches


def test_scope_allows_what_all_kinds_allow() -> None:
    """A part that is not named is not asked for."""
    scope = Scope(("coin*",), ("BTC-*",), ("TRADES",))
    assert scope.allows("coinbase")
    assert scope.allows("coinbase", "BTC-USD")
    assert scope.allows("coinbase", "BTC-USD", "TRADES")
    assert not scope.allows("kraken", "BTC-USD", "TRADES")
    assert not scope.allows("coinbase", "ETH-USD", "TRADES")
    assert not scope.allows("coinbase", "BTC-USD", "MD")
    assert not scope.is_everything
    assert Scope().is_everything


def test_stars_without_end_cost_linear_time() -> None:
    """A pattern of an operator's cannot hold up the event loop by backtracking."""
    scope = Scope(symbols=("*a" * 32,))
    begun_s = time.process_time()
    for _ in range(100):
        assert not scope.allows("x", "a" * 31 + "b" * 33)
    assert time.process_time() - begun_s < 5


def test_allowance_is_limited_by_any_number() -> None:
    """Only who has none is not counted."""
    assert not Allowance().is_limited
    assert Allowance(requests_per_s=1).is_limited
    assert Allowance(bytes_per_day=1).is_limited
    assert Allowance(streams=1).is_limited


def test_revoked_grant_tells_its_watchers_once_and_holds_no_longer() -> None:
    """Whoever has it sees it, and who no longer watches is not called."""
    grant, told = Grant("desk"), list[str]()

    def first() -> None:
        told.append("first")
        grant.unwatch(first)

    def second() -> None:
        told.append("second")

    grant.watch(first)
    grant.watch(second)
    grant.watch(second)
    grant.unwatch(second)
    grant.unwatch(second)
    assert grant.until_s == math.inf
    grant.revoke()
    grant.revoke()
    assert grant.until_s < 0
    assert told == ["first"]
