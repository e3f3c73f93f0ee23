"""Tokens remembered: one verification, one grant, and when both are over."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuing import AUDIENCE, ISSUER, jwk, key_set, token
from zerocopy.access import tokens as tokens_module
from zerocopy.access.jwt import Policy, UnknownKeyError, Verified, verify
from zerocopy.access.keyset import KeySet, read_key_set
from zerocopy.access.tokens import WAITING_MAX, Tokens
from zerocopy.core.access import Allowance
from zerocopy.core.errors import ConfigError, OverloadError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.core.access import Grant

ONE, TWO = jwk("ES256", "one"), jwk("EdDSA", "two")
ALLOWANCE = Allowance(requests_per_s=7)


class Source:
    """A source that a test changes."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.next: KeySet | ConfigError | None = read_key_set(key_set(*keys)) if keys else None
        self.age_s = 0.0
        self.asked = 0

    def publish(self, *keys: dict[str, Any]) -> None:
        """From now on these."""
        self.next = read_key_set(key_set(*keys))

    def read_if_changed(self) -> KeySet | None:
        """What was published since."""
        found, self.next = self.next, None
        if isinstance(found, ConfigError):
            raise found
        return found

    def ask(self) -> None:
        """Count."""
        self.asked += 1


@pytest.fixture(name="executor", scope="module")
def fixture_executor() -> Iterator[ThreadPoolExecutor]:
    """Two threads."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def make(source: Source, executor: ThreadPoolExecutor) -> Tokens:
    """What a worker makes; the set may be 100 s old."""
    tokens = Tokens(source, Policy(ISSUER, AUDIENCE), ALLOWANCE, executor, fresh_s=100.0)
    tokens.load()
    return tokens


def grant(tokens: Tokens, word: bytes) -> Grant:
    """Who shows `word`."""
    return asyncio.run(tokens.grant(word))


def look(tokens: Tokens) -> None:
    """What a worker does each second."""
    with ThreadPoolExecutor(1) as looker:
        asyncio.run(tokens.look(looker))


def test_a_token_is_verified_once(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request has the same grant, without a thread."""
    verified = []

    def counting(word: bytes, *others: Any) -> Verified:
        verified.append(word)
        return verify(word, *others)

    monkeypatch.setattr(tokens_module, "verify", counting)
    tokens, word = make(Source(ONE), executor), token()
    first = grant(tokens, word)
    assert first.name == "token:desk"
    assert first.allowance == ALLOWANCE
    assert grant(tokens, word) is first
    assert verified == [word]
    other = token(sub="other")
    assert grant(tokens, other) is not first
    assert verified == [word, other]


def test_a_ticket_that_was_opened_is_no_token(executor: ThreadPoolExecutor) -> None:
    """What it opens is remembered, but not as what a token proves: it would outlive its minute."""
    tokens, ticket = make(Source(ONE), executor), b"a.ticket"
    proved = grant(tokens, token())
    opened = tokens.grant_again(ticket, proved.name, proved.scope, proved.until_s, proved.mark)
    assert tokens.grant_again(ticket, "", proved.scope, proved.until_s, proved.mark) is opened
    with pytest.raises(UnauthorizedError):
        grant(tokens, ticket)


def test_a_refused_token_is_not_remembered(executor: ThreadPoolExecutor) -> None:
    """It may hold a second later."""
    tokens = make(Source(ONE), executor)
    word = token(nbf=int(time.time()) + 3_600)
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            grant(tokens, word)


def test_a_token_that_has_run_out_is_refused_like_one_that_comes_late(
    executor: ThreadPoolExecutor,
) -> None:
    """What was remembered does not outlive it."""
    tokens, word = make(Source(ONE), executor), token()
    found = grant(tokens, word)
    assert found.until_s == pytest.approx(time.time() + 600, abs=60)
    found.revoke()  # or the clock reaches until_s
    again = grant(tokens, word)
    assert again is not found
    assert again.until_s > time.time()
    with pytest.raises(UnauthorizedError, match="expired"):
        grant(tokens, token(exp=int(time.time()) - 1))


def test_a_key_that_leaves_the_set_takes_its_grants_along(executor: ThreadPoolExecutor) -> None:
    """At the next look: streams that watch are told, requests with the same token are refused."""
    source = Source(ONE, TWO)
    tokens = make(source, executor)
    gone, stays = grant(tokens, token()), grant(tokens, token("EdDSA", "two"))
    told = []
    gone.watch(lambda: told.append(True))
    source.publish(TWO)
    look(tokens)
    assert told == [True]
    assert gone.until_s < time.time() < stays.until_s
    assert grant(tokens, token("EdDSA", "two")).until_s > time.time()
    with pytest.raises(UnknownKeyError):
        grant(tokens, token())
    assert source.asked == 1


def test_another_key_of_the_same_name_is_another_key(executor: ThreadPoolExecutor) -> None:
    """An issuer that lost a key and kept its name."""
    source = Source(ONE)
    tokens = make(source, executor)
    found = grant(tokens, token())
    source.publish(jwk("ES256", "one", name="second"))
    look(tokens)
    assert found.until_s < time.time()
    with pytest.raises(UnauthorizedError, match="signature"):
        grant(tokens, token())


def test_the_same_keys_again_change_nothing(executor: ThreadPoolExecutor) -> None:
    """A set is fetched again and again."""
    source = Source(ONE)
    tokens = make(source, executor)
    word = token()
    found = grant(tokens, word)
    source.publish(TWO, ONE)
    look(tokens)
    assert grant(tokens, word) is found


def test_a_grant_that_is_remembered_no_longer_is_revoked_all_the_same(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream or a kept head has it; and nothing else keeps it."""
    monkeypatch.setattr(tokens_module, "TOKENS_MAX", 2)
    source = Source(ONE, TWO)
    tokens = make(source, executor)
    held = grant(tokens, token(sub="first"))
    for name in ("second", "third", "fourth"):
        grant(tokens, token(sub=name))
    gc.collect()
    assert sum(map(len, tokens._granted.values())) == 3
    source.publish(TWO)
    look(tokens)
    assert held.until_s < time.time()


def test_without_a_set_tokens_are_not_judged(executor: ThreadPoolExecutor) -> None:
    """503 until the first is there: nobody knows whether they are right."""
    source = Source()
    tokens = make(source, executor)
    with pytest.raises(OverloadError, match="keys of tokens"):
        grant(tokens, token())
    source.publish(ONE)
    look(tokens)
    assert grant(tokens, token()).name == "token:desk"


def test_a_set_that_is_too_old_ends_what_it_proved(executor: ThreadPoolExecutor) -> None:
    """A key may have been withdrawn meanwhile; when the source is back, so are its tokens."""
    source = Source(ONE)
    tokens, word = make(source, executor), token()
    found = grant(tokens, word)
    source.age_s = 99.0
    look(tokens)
    assert grant(tokens, word) is found
    source.age_s = 100.1
    look(tokens)
    assert found.until_s < time.time()
    with pytest.raises(OverloadError):
        grant(tokens, word)
    source.age_s = 0.0
    assert grant(tokens, word).until_s > time.time()


def test_a_set_that_cannot_be_read_leaves_the_one_before(executor: ThreadPoolExecutor) -> None:
    """And whoever looks is told."""
    source = Source(ONE)
    tokens, word = make(source, executor), token()
    found = grant(tokens, word)
    source.next = ConfigError("gone")
    with pytest.raises(ConfigError, match="gone"):
        look(tokens)
    assert grant(tokens, word) is found


def test_a_token_verified_by_a_set_that_was_replaced_meanwhile_is_refused(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grant would never be revoked."""
    source = Source(ONE)
    tokens = make(source, executor)

    async def both() -> None:
        entered, go_on = threading.Event(), threading.Event()

        def late(*args: Any) -> Any:
            entered.set()
            go_on.wait(30)
            return verify(*args)

        monkeypatch.setattr(tokens_module, "verify", late)
        asking = asyncio.create_task(tokens.grant(token()))
        await asyncio.to_thread(entered.wait, 30)
        source.publish(TWO)
        await tokens.look(executor)
        go_on.set()
        with pytest.raises(UnauthorizedError, match="no longer known"):
            await asking

    asyncio.run(both())


def test_a_flood_of_tokens_waits_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may wait gets 503 at once; a token that is known is not held up."""
    with ThreadPoolExecutor(1) as executor:
        tokens, known = make(Source(ONE), executor), token(sub="known")
        words = [token(sub=str(number)) for number in range(WAITING_MAX)]

        async def flood() -> None:
            found = await tokens.grant(known)
            go_on = threading.Event()
            monkeypatch.setattr(
                tokens_module, "verify", lambda *args: go_on.wait(30) and verify(*args)
            )
            asking = [asyncio.create_task(tokens.grant(word)) for word in words]
            await asyncio.sleep(0)  # each is now given to the thread
            with pytest.raises(OverloadError, match="too many tokens"):
                await tokens.grant(token(sub="late"))
            assert await tokens.grant(known) is found
            go_on.set()
            grants = await asyncio.gather(*asking)
            assert len({each.name for each in grants}) == WAITING_MAX
            assert (await tokens.grant(token(sub="late"))).name == "token:late"

        asyncio.run(flood())
