"""From a request to its grant, and what a change of the key file does to those that were given."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from zerocopy.access.authenticator import Authenticator
from zerocopy.access.keys import Keys, add_key, revoke_key
from zerocopy.core.access import Allowance
from zerocopy.core.errors import ConfigError, UnauthorizedError
from zerocopy.core.http.messages import Request

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.access.keys import Entry, Reading


def asked(word: str | None) -> Request:
    """A request with a bearer word, or without."""
    fields = () if word is None else ((b"authorization", b"Bearer " + word.encode()),)
    return Request(b"GET", b"/api/symbols", fields)


def test_grant_is_found_until_its_key_is_revoked(tmp_path: Path) -> None:
    """A change is taken over at the next look, in a thread; a broken file changes nothing."""
    path = str(tmp_path / "keys.json")
    key = add_key(path, "desk")
    authenticator = Authenticator(Allowance(), path)
    authenticator.load()

    async def scenario(executor: ThreadPoolExecutor) -> None:
        grant = await authenticator.grant(asked(key))
        assert grant.name == "desk"
        for word, words in (
            (None, "Authorization: Bearer"),
            ("x", "unknown"),
            ("a.b.c", "unknown"),
        ):
            with pytest.raises(UnauthorizedError, match=words) as caught:
                await authenticator.grant(asked(word))
            assert caught.value.is_invalid == (word is not None)
        assert await authenticator.look(executor) is None
        good = tmp_path.joinpath("keys.json").read_bytes()
        tmp_path.joinpath("keys.json").write_bytes(b"{")
        with pytest.raises(ConfigError):
            await authenticator.look(executor)
        assert await authenticator.grant(asked(key)) is grant
        tmp_path.joinpath("keys.json").write_bytes(good)
        assert await authenticator.look(executor) is None
        revoke_key(path, "desk")
        change = await authenticator.look(executor)
        assert change is not None
        assert change.gone == [grant]
        assert grant.until_s < 0
        with pytest.raises(UnauthorizedError):
            await authenticator.grant(asked(key))
        assert len(authenticator) == 0

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(scenario(executor))


def test_without_a_key_file_no_word_is_a_key() -> None:
    """A server may take tokens alone."""
    authenticator = Authenticator(Allowance(), None)
    authenticator.load()
    with pytest.raises(UnauthorizedError):
        asyncio.run(authenticator.grant(asked("x")))


def test_without_a_key_set_cloudflares_field_stands_in_nobodys_way(tmp_path: Path) -> None:
    """Behind Cloudflare Access every request has it; the ticket beside it says who asks."""
    path = str(tmp_path / "keys.json")
    key = add_key(path, "desk")
    authenticator = Authenticator(Allowance(), path)
    authenticator.load()
    request = Request(b"GET", b"/api/live", ((b"cf-access-jwt-assertion", b"a.b.c"),))

    async def scenario() -> None:
        grant = await authenticator.grant(asked(key))
        ticket, _ = authenticator.ticket(grant)
        assert await authenticator.grant(request, ticket) is grant
        with pytest.raises(UnauthorizedError, match="Authorization: Bearer") as caught:
            await authenticator.grant(request)
        assert not caught.value.is_invalid

    asyncio.run(scenario())


def test_keys_are_compared_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand take 0.1 s, and others wait for the loop."""
    path = str(tmp_path / "keys.json")
    key = add_key(path, "desk")
    authenticator = Authenticator(Allowance(), path)
    compare, threads = Keys.compare, []

    def noted(self: Keys, entries: tuple[Entry, ...]) -> Reading:
        threads.append(threading.current_thread().name)
        return compare(self, entries)

    monkeypatch.setattr(Keys, "compare", noted)

    async def scenario(executor: ThreadPoolExecutor) -> None:
        change = await authenticator.look(executor)
        assert change is not None
        assert await authenticator.grant(asked(key)) is change.added[0]

    with ThreadPoolExecutor(1, "looker") as executor:
        asyncio.run(scenario(executor))
    assert threads == ["looker_0"]
