"""Tickets before a service: what they open, for how long, and what the service sees of them."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import SMALL, seal, write_series
from tests.service.guard.bench import GuardedBench
from tests.storage.trees import YOUNG_S
from zerocopy.access import authenticator as authenticator_module
from zerocopy.access.keys import revoke_key
from zerocopy.access.tickets import LIFE_S
from zerocopy.core import counters as slots
from zerocopy.core.access import Scope
from zerocopy.service.guard.granted_feed import REVOKED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIVE = "/api/live?symbol=BTC-USD&type=SMALL&columns=time,price"


@pytest.fixture(name="bench", scope="module")
def fixture_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBench]:
    """One series, and keys that each test makes for itself."""
    root: Path = tmp_path_factory.mktemp("root")
    write_series(root, "SMALL", 500)
    seal(root, "SMALL")
    time.sleep(YOUNG_S)  # the kernel's clock has to tick; see catalog.RACY_NS
    bench = GuardedBench(root, tmp_path_factory.mktemp("keys") / "keys.json")
    yield bench
    bench.close()


def ticket_of(bench: GuardedBench, key: str) -> str:
    """A new ticket."""
    answer = bench.ask("/api/ticket", key, "POST")
    assert answer.status == 200
    document = json.loads(answer.content)
    assert document["expires_s"] == LIFE_S
    return str(document["ticket"])


def stop_clock(monkeypatch: pytest.MonkeyPatch, at_s: float) -> None:
    """Have the clock of tickets stand still, however long the test takes."""
    monkeypatch.setattr(authenticator_module, "time", SimpleNamespace(time=lambda: at_s))


def test_a_head_with_a_ticket_is_refused_once_that_has_ended(
    bench: GuardedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very same head on the same connection: what was granted is its target without."""
    now_s = time.time()
    stop_clock(monkeypatch, now_s)
    target = f"{SMALL}&ticket={ticket_of(bench, bench.add('head'))}"
    for _ in range(3):
        assert bench.ask(target, None).status == 200
    stop_clock(monkeypatch, now_s + LIFE_S - 1)
    assert bench.ask(target, None).status == 200
    stop_clock(monkeypatch, now_s + LIFE_S)
    refused = bench.ask(target, None)
    assert refused.status == 401
    assert b"has ended" in refused.content


def test_a_ticket_shares_the_answer_that_is_kept(bench: GuardedBench) -> None:
    """One plan for the key and all its tickets: the service sees one target."""
    key = bench.add("sharing")
    first = bench.ask(SMALL, key)
    made = bench.inner.counters[slots.PLANS_MADE]
    for _ in range(3):
        answer = bench.ask(f"{SMALL}&ticket={ticket_of(bench, key)}", None)
        assert answer.content == first.content
    assert bench.inner.counters[slots.PLANS_MADE] == made


def test_a_ticket_sees_what_its_key_sees_when_it_is_used(bench: GuardedBench) -> None:
    """404 for what is hidden, counted by the key's name; and nothing at all once it is revoked."""
    hidden = ticket_of(bench, bench.add("narrow", Scope(symbols=("ETH-*",))))
    assert bench.ask(f"{SMALL}&ticket={hidden}", None).status == 404
    assert bench.pending is not None
    assert bench.pending.grant is not None
    assert bench.pending.grant.name == "narrow"
    ticket = ticket_of(bench, bench.add("lost"))
    revoke_key(bench.keys_path, "lost")
    bench.look()
    assert bench.ask(f"{SMALL}&ticket={ticket}", None).status == 401
    again = bench.add("lost")
    assert bench.ask(SMALL, again).status == 200
    assert bench.ask(f"{SMALL}&ticket={ticket}", None).status == 401, "another key of that name"


def test_a_stream_that_a_ticket_opened_outlives_it_and_not_its_key(
    bench: GuardedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute is for the opening; then the key decides."""
    ticket = ticket_of(bench, bench.add("stream"))
    feed = bench.ask(f"{LIVE}&ticket={ticket}", None).feed
    assert feed is not None

    async def scenario() -> None:
        woken = asyncio.Event()
        feed.start(woken.set)
        stop_clock(monkeypatch, time.time() + 10 * LIFE_S)
        assert feed.next() is not REVOKED
        revoke_key(bench.keys_path, "stream")
        await bench.guard.look()
        assert woken.is_set()
        assert feed.next() is REVOKED
        feed.close()

    asyncio.run(scenario())
