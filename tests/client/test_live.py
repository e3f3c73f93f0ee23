"""Live streams: every record once and in order, whatever happens to the connection."""

from __future__ import annotations

import gc
import struct
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.client.liar import Liar, Say, columns_body, response, upgrade
from tests.client.ticker import Ticker
from zerocopy.client import (
    BadRequest,
    Client,
    ConnectionFailed,
    Error,
    Live,
    NotFound,
    Reset,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from zerocopy.client.fetch import FIRST_ATTEMPTS_MAX
from zerocopy.client.follow import Follow
from zerocopy.client.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.liar import Head
    from tests.server import RunningServer


@pytest.fixture
def ticker(root: Path, request: pytest.FixtureRequest) -> Ticker:
    """A series of the test's own."""
    name = "".join(letter for letter in request.node.name if letter.isalnum())
    return Ticker(root, f"T{abs(hash(name)) % 10**12}")


def taken(stream: Live, count: int) -> list[float]:
    """The next prices, at least `count`."""
    prices: list[float] = []
    while len(prices) < count:
        prices += next(stream)["price"].tolist()
    return prices


def test_what_is_appended_comes_in_order(client: Client, ticker: Ticker) -> None:
    """From the call of live() on, with a cursor behind each frame."""
    ticker.append(5)
    with client.live(ticker.symbol, "time,price", type="MD") as stream:
        assert stream.cursor == f"{ticker.day:%Y%m%d}.5"
        ticker.append(3)
        ticker.append(4)
        assert taken(stream, 7) == [5, 6, 7, 8, 9, 10, 11]
        assert stream.cursor == f"{ticker.day:%Y%m%d}.12"


def test_a_stream_begins_where_it_is_told(client: Client, ticker: Ticker) -> None:
    """At a cursor, or at a time; what is older than now comes first."""
    ticker.append(2_500)
    cursor = f"{ticker.day:%Y%m%d}.2400"
    with client.live(ticker.symbol, "time,price", type="MD", cursor=cursor) as stream:
        assert taken(stream, 100) == list(range(2_400, 2_500))
    start = np.datetime64(ticker.day_s * 1_000 + 1_500, "ms")  # rounded up to its second
    with client.live(ticker.symbol, "price", type="MD", start=start) as stream:
        assert taken(stream, 500) == list(range(2_000, 2_500))


def test_a_day_that_was_replaced_is_a_reset_and_the_stream_goes_on(
    client: Client, ticker: Ticker
) -> None:
    """Nobody can miss it; who iterates on gets the day from its beginning."""
    ticker.append(10)
    with client.live(ticker.symbol, "time,price", type="MD", start=0) as stream:
        assert taken(stream, 10) == list(range(10))
        ticker.replace(4)
        with pytest.raises(Reset) as caught:
            next(stream)
        assert caught.value.cursor == f"{ticker.day:%Y%m%d}.0"
        assert caught.value.reason
        assert taken(stream, 4) == [0, 1, 2, 3]
        ticker.append(2)
        assert taken(stream, 2) == [4, 5]


def test_a_cursor_beyond_its_day_is_a_reset_of_the_iterator(client: Client, ticker: Ticker) -> None:
    """Not of live(): whoever catches it has something to iterate on."""
    ticker.append(3)
    cursor = f"{ticker.day:%Y%m%d}.99"
    with client.live(ticker.symbol, "price", type="MD", cursor=cursor) as stream:
        with pytest.raises(Reset):
            next(stream)
        assert taken(stream, 3) == [0, 1, 2]


def test_what_does_not_exist_is_told_at_once(client: Client) -> None:
    """By live() itself, with the server's words."""
    with pytest.raises(NotFound, match="symbol"):
        client.live("NOPE", "time", type="MD")
    with pytest.raises(BadRequest):
        client.live("X", "time", type="MD", cursor="soon")


def test_close_ends_an_iterator_that_waits(client: Client, ticker: Ticker) -> None:
    """From another thread."""
    stream = client.live(ticker.symbol, "price", type="MD")
    waiting = threading.Event()
    frames: list[object] = []

    def read() -> None:
        waiting.set()
        frames.extend(stream)

    thread = threading.Thread(target=read)
    thread.start()
    waiting.wait(20)
    stream.close()
    thread.join(20)
    assert not thread.is_alive()
    assert frames == []
    assert list(stream) == []


def test_a_client_that_is_closed_ends_its_streams(url: str, ca: str, ticker: Ticker) -> None:
    """And their threads."""
    before = set(threading.enumerate())  # of tests before this one, which may still end
    with Client(url, ca=ca) as client:
        streams = [client.live(ticker.symbol, "price", type="MD") for _ in range(3)]
        threads = set(threading.enumerate()) - before
        assert len(threads) == 3
    assert [list(stream) for stream in streams] == [[], [], []]
    assert not any(thread.is_alive() for thread in threads)


def test_a_stream_that_nobody_holds_ends_its_thread(client: Client, ticker: Ticker) -> None:
    """Who breaks out of a loop need not close it."""
    stream = client.live(ticker.symbol, "price", type="MD")
    [thread] = [thread for thread in threading.enumerate() if thread.name == "zerocopy-live"]
    del stream
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("say", "kind", "attempts"),
    [
        (Say(response(b'{"detail": "no"}', 401)), Unauthorized, 1),
        (Say(response(b"<html>", 404)), NotFound, 1),
        (Say(response(b"", 503)), Unavailable, FIRST_ATTEMPTS_MAX),
        (Say(response(b"", 503, Retry_After="9999")), Unavailable, 1),
        (Say(response(b"", 200)), UnexpectedAnswer, 1),
        (Say(b"nonsense\r\n\r\n", "close"), ConnectionFailed, FIRST_ATTEMPTS_MAX),
        (Say(b"", "close"), ConnectionFailed, FIRST_ATTEMPTS_MAX),
        (lambda head: Say(upgrade(head), "close"), ConnectionFailed, FIRST_ATTEMPTS_MAX),
        (Say(response(b"", 503, Retry_After="9\r\nRetry-After: 9")), Unavailable, 3),
    ],
    ids=["401", "404", "503", "503-long", "200", "nonsense", "close", "101-close", "503-twice"],
)
@pytest.mark.usefixtures("pauses")
def test_a_stream_that_never_began_is_told(
    say: Say | Callable[[Head], Say], kind: type[Error], attempts: int
) -> None:
    """With the error that fits, and never with the key."""
    key = "s3cr3t-key"
    with Liar(say) as liar, Client(liar.url, key=key) as client:
        with pytest.raises(kind) as caught:
            client.live("X", "time", type="MD")
        assert len(liar.heads) == attempts
        assert key not in str(caught.value) + repr(caught.value.__cause__)
        assert liar.heads[0].fields["authorization"] == f"Bearer {key}"


def follow() -> Follow:
    """The state of a stream that has begun."""
    state = Follow(read_options("http://127.0.0.1:1", None, None, 30), "/api/live?symbol=X", None)
    empty = {"time": np.empty(0, "<u4")}
    assert state.take(columns_body(empty, cursor="20250131.7")) is None
    return state


def test_a_stream_that_has_begun_is_never_given_up() -> None:
    """Whatever passes by itself: it asks again at its cursor, more and more slowly."""
    state = follow()
    assert state.url == "ws://127.0.0.1:1/api/live?symbol=X&from=20250131.7"
    waits = [state.refused(ConnectionRefusedError()) for _ in range(50)]
    assert waits[0] <= 0.1
    assert 1.0 <= waits[-1] <= 2.0


def test_an_end_without_a_reset_connects_again_at_once() -> None:
    """A drain says 1001; a broken connection nothing. Twice without a record waits."""
    state = follow()
    assert state.ended(1001, "going away") == 0.0
    assert state.take(message(0, "20250131.7")) is None
    assert state.ended(None, "") > 0.0
    assert len(state.take(message(1, "20250131.8")) or ()) == 1
    assert state.ended(1001, "") == 0.0


def test_a_reset_without_a_cursor_begins_the_day_anew() -> None:
    """The reason of a close frame may be cut."""
    state = follow()
    with pytest.raises(Reset):
        state.ended(4001, "a file of the day was")
    assert state.cursor == "20250131.0"


@pytest.mark.parametrize(
    "message", ["text", b"", b"{}\n", columns_body({"time": np.zeros(1, "<u4")}), b"x" * 70_000]
)
def test_a_message_that_is_none_is_refused(message: str | bytes) -> None:
    """Without its cursor a stream could not go on."""
    with pytest.raises(UnexpectedAnswer):
        follow().take(message)


def message(count: int, cursor: str) -> bytes:
    """A message of a stream, of so many records."""
    return columns_body({"time": np.arange(count, dtype="<u4")}, cursor=cursor)


def test_a_peer_that_falls_silent_is_left() -> None:
    """Its missing pongs tell; the next connection begins at the cursor."""

    def silent(head: Head) -> Say:
        return Say(upgrade(head, message(2, "20250131.2")), "hold")

    def awake(head: Head) -> Say:
        return Say(upgrade(head, message(0, "20250131.2"), message(3, "20250131.5")), "hold")

    with (
        Liar(silent, awake) as liar,
        Client(liar.url, timeout=1) as client,
        client.live("X", "time", type="MD") as stream,
    ):
        assert [len(next(stream)), len(next(stream))] == [2, 3]
        assert liar.heads[1].target.endswith("&from=20250131.2")


def test_a_reset_before_the_first_message_is_one_of_the_iterator() -> None:
    """live() gives the iterator all the same, which goes on."""

    def gone(head: Head) -> Say:
        reason = b"a file was replaced; it begins at 20250131.0"
        close = struct.pack("!BBH", 0x88, 2 + len(reason), 4001) + reason
        return Say(upgrade(head) + close, "close")

    def there(head: Head) -> Say:
        return Say(upgrade(head, message(0, "20250131.0"), message(2, "20250131.2")), "hold")

    with (
        Liar(gone, there) as liar,
        Client(liar.url) as client,
        client.live("X", "time", type="MD", cursor="20250131.9") as stream,
    ):
        with pytest.raises(Reset) as caught:
            next(stream)
        assert (caught.value.cursor, caught.value.reason) == ("20250131.0", "a file was replaced")
        assert len(next(stream)) == 2
        assert "from=20250131.0" in liar.heads[1].target


@pytest.mark.parametrize("where", ["ws://127.0.0.1:1/", "https://127.0.0.1:1/", "/elsewhere"])
def test_a_redirect_of_a_stream_is_told_and_not_followed(where: str) -> None:
    """The key would go where the answer points; a request is told the same."""
    moved = response(b"", 302, Location=where)
    with Liar(Say(moved)) as liar, Client(liar.url, key="s3cr3t") as client:
        with pytest.raises(UnexpectedAnswer, match=f"redirects to {where}:") as caught:
            client.live("X", "time", type="MD")
        assert caught.value.status == 302
        assert len(liar.heads) == 1


def test_a_certificate_that_is_not_trusted_is_told(server: RunningServer) -> None:
    """At once, and how to trust it."""
    with (
        Client(f"https://127.0.0.1:{server.tls_port}") as client,
        pytest.raises(ConnectionFailed, match=r"not trusted.*ca="),
    ):
        client.live("X", "time", type="MD")


def test_the_wrong_scheme_is_told(server: RunningServer) -> None:
    """In the words of the port that was asked."""
    with Client(f"http://127.0.0.1:{server.tls_port}") as client:
        for ask in (client.symbols, lambda: client.live("X", "time", type="MD")):
            with pytest.raises(BadRequest, match="speaks HTTPS"):
                ask()
    with Client(f"https://127.0.0.1:{server.plain_port}") as client:
        for ask in (client.symbols, lambda: client.live("X", "time", type="MD")):
            with pytest.raises(ConnectionFailed, match="plain HTTP"):
                ask()
