"""Clients of a server with a key file: refusals are typed, streams end with their key."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from tests.client.conftest import FIRST_S, write_day
from tests.client.liar import Liar, Say, columns_body, honest, response, upgrade
from tests.client.ticker import Ticker
from tests.faults.client import poll
from tests.server import ForkedServer
from zerocopy.access.keys import add_key, revoke_key
from zerocopy.client import (
    AsyncClient,
    Client,
    Error,
    NotFound,
    RateLimit,
    TooManyRequests,
    Unauthorized,
)
from zerocopy.core.access import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.liar import Head

LIMITED = {
    "Retry_After": "1",
    "RateLimit": '"day";r=5;t=9, "requests, all";r=0;t=1',
    "RateLimit_Policy": '"requests, all";q=100;w=1;pk=:a:, "day";q=7;w=86400',
}


class Guarded(NamedTuple):
    """A server that asks who asks, and its key file."""

    url: str
    keys: str
    root: Path

    def add(self, name: str, **scope: tuple[str, ...]) -> str:
        """Another key."""
        return add_key(self.keys, name, scope=Scope(**scope))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """X and SECRET, and a key `reader` for X alone."""
    root = tmp_path_factory.mktemp("guarded")
    keys = str(tmp_path_factory.mktemp("keys") / "keys.json")
    for symbol in ("X", "SECRET"):
        write_day(root / "coinbase" / symbol / "MD", "31.01.25", FIRST_S, 100)
    add_key(keys, "first")
    with ForkedServer(root, ZEROCOPY_AUTH_KEYS_PATH=keys) as running:
        yield Guarded(f"http://127.0.0.1:{running.port}", keys, root)
    shutil.rmtree(root)


def accepted(client: Client) -> bool:
    """Whether the server knows the key by now: it reads the file within two seconds."""
    try:
        client.symbols()
    except Unauthorized:
        return False
    return True


def until_known(client: Client) -> None:
    """Wait until a key that was just added is one."""
    poll(lambda: accepted(client), "the key")


def test_each_method_tells_who_may_not_ask(guarded: Guarded, tmp_path: Path) -> None:
    """Without a key and with a wrong one, in both clients; nothing of the key is told."""
    series = ("X", "time,price")

    async def ask_async(key: str | None) -> list[Error]:
        async with AsyncClient(guarded.url, key=key) as client:
            found = await asyncio.gather(
                client.symbols(),
                client.data(*series, type="MD"),
                anext(client.live(*series, type="MD")),
                return_exceptions=True,
            )
            return [error for error in found if isinstance(error, Error)]

    for key, told in ((None, "must say who asks"), ("zc_wr0ng", "is unknown")):
        errors = asyncio.run(ask_async(key))
        assert len(errors) == 3
        with Client(guarded.url, key=key) as client:
            for ask in (
                client.symbols,
                lambda: client.catalog("X"),
                lambda: client.data(*series, type="MD"),
                lambda: client.bars("X", "price", type="MD"),
                lambda: client.live(*series, type="MD"),
                lambda: client.download(*series, tmp_path / "x.bin", type="MD"),
            ):
                with pytest.raises(Unauthorized) as caught:
                    ask()
                errors.append(caught.value)
        for error in errors:
            assert type(error) is Unauthorized
            assert error.status == 401
            assert told in error.detail
            assert "wr0ng" not in error.detail + repr(error)
    assert list(tmp_path.iterdir()) == []


def test_a_scope_hides_the_rest(guarded: Guarded) -> None:
    """What a key may not see is told in the words for what does not exist."""
    with Client(guarded.url, key=guarded.add("reader", symbols=("X",))) as client:
        until_known(client)
        assert client.symbols()["symbols"] == ["X"]
        assert len(client.data("X", "time,price", type="MD")) == 100
        told = []
        for symbol in ("SECRET", "NONE"):
            with pytest.raises(NotFound) as caught:
                client.data(symbol, "time", type="MD")
            told.append(caught.value.detail.replace(symbol, ""))
        assert told[0] == told[1]


def test_a_limit_of_the_server_is_told(guarded: Guarded) -> None:
    """At once, for a day lasts longer than the timeout; which limit, and until when."""
    key = add_key(guarded.keys, "little", bytes_per_day=20)
    with Client(guarded.url, key=key) as client:
        errors: list[TooManyRequests] = []

        def is_limited() -> bool:
            try:
                client.symbols()
            except Unauthorized:
                return False  # the server does not know the key yet
            except TooManyRequests as error:
                errors.append(error)
            return True

        poll(is_limited, "the key")
        [error] = errors
        assert "20 bytes a day" in error.detail
        assert error.rate_limit is not None
        assert (error.rate_limit.quota, error.rate_limit.window_s) == (20, 86_400)
        assert error.retry_after_s is not None
        assert error.retry_after_s <= 86_400


def test_a_stream_ends_with_its_key(guarded: Guarded) -> None:
    """It connects again at once, and is told; records come until then."""
    ticker = Ticker(guarded.root, "LIVE")
    ticker.append(3)
    with Client(guarded.url, key=guarded.add("leaver")) as client:
        until_known(client)
        with client.live("LIVE", "time,price", type="MD", start=0) as stream:
            assert next(stream)["price"].tolist() == [0, 1, 2]
            revoke_key(guarded.keys, "leaver")
            with pytest.raises(Unauthorized, match="revoked") as caught:
                next(stream)
            assert caught.value.status == 401


def test_a_stream_that_is_refused_at_its_reconnect_is_not_asked_again(pauses: list[float]) -> None:
    """A 401 does not pass; the key goes with each handshake."""

    def first(head: Head) -> Say:
        none = {"time": np.array([], "<u4")}
        return Say(upgrade(head, columns_body(none, cursor="20250131.1")), "close")

    refused = Say(response(b'{"detail":"revoked"}', 401))
    with (
        Liar(first, refused) as liar,
        Client(liar.url, key="k") as client,
        client.live("X", "time", type="MD") as stream,
    ):
        with pytest.raises(Unauthorized, match="revoked"):
            next(stream)
        assert [head.fields["authorization"] for head in liar.heads] == ["Bearer k"] * 2
        assert pauses == [0.0]


def test_a_limit_is_waited_for_as_long_as_the_timeout(pauses: list[float]) -> None:
    """Else the error tells which limit, how much it allows, and when there is more."""
    with Liar(Say(response(b"", 429, **LIMITED)), honest) as liar, Client(liar.url) as client:
        assert len(client.data("X", "time,price", type="MD"))
    assert [int(pause) for pause in pauses] == [1]
    told = Say(response(json.dumps({"detail": "no more"}).encode(), 429, **LIMITED))
    with Liar(told) as liar, Client(liar.url, timeout=0.5) as client:
        for ask in (client.symbols, lambda: client.live("X", "time", type="MD")):
            with pytest.raises(TooManyRequests, match="no more") as caught:
                ask()
            assert caught.value.retry_after_s == 1
            assert caught.value.rate_limit == RateLimit("requests, all", 100, 0, 1, 1)
        assert len(liar.heads) == 2
    assert len(pauses) == 1


@pytest.mark.parametrize("told", ["", "nonsense", '"a"', '"a";t=1', '"a;r=0', "a;r=0", '"a";r=-1'])
def test_a_limit_that_is_none_is_not_told(told: str) -> None:
    """The status and Retry-After are enough."""
    say = Say(response(b"", 429, Retry_After="99", RateLimit=told))
    with Liar(say) as liar, Client(liar.url) as client, pytest.raises(TooManyRequests) as caught:
        client.symbols()
    assert caught.value.rate_limit is None
