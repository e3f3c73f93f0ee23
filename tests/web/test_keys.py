"""The JavaScript client with a key, in Node and in Chromium, against a server with a key file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser, run_page
from tests.faults.client import poll
from tests.server import ForkedServer
from tests.storage.trees import DAY, DAY_START_S, put
from tests.web import node
from tests.web.origin import client_page
from tests.web.served import (
    DEADLINE_S,
    LIVE,
    append_prices,
    asking,
    kill_workers,
    line_of,
    url_of,
)
from zerocopy.access.keys import add_key, revoke_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT, FIRST = 30, 10
"""Records that are followed, and those of them that are there at first."""

ROWS = [[DAY_START_S + each, each] for each in range(COUNT)]
FOLLOW = ["LIVE", "time,price", {"type": "MD", "start": 0}, COUNT]


class Guarded(NamedTuple):
    """A server of one worker, its data and its keys."""

    server: ForkedServer
    root: Path
    path: str
    key: str
    leaver: str

    def begin(self) -> None:
        """The first records of `LIVE`, and no others."""
        put(str(self.root), {"time": b"", "price": b""}, DAY, LIVE)
        append_prices(self.root, 0, FIRST)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Both listeners, two keys."""
    root = tmp_path_factory.mktemp("guarded")
    path = str(tmp_path_factory.mktemp("keys") / "keys.json")
    keys = add_key(path, "stays"), add_key(path, "leaves")
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    with ForkedServer(
        root,
        ZEROCOPY_AUTH_KEYS_PATH=path,
        ZEROCOPY_SERVER_WORKERS="1",
        ZEROCOPY_TLS_PORT="0",
    ) as running:
        yield Guarded(running, root, path, *keys)
        assert not any(key in running.log_text() for key in keys)


def test_node_follows_by_socket_over_the_death_of_a_worker(guarded: Guarded) -> None:
    """Each connection has a ticket; every record comes once. A revoked key ends the stream."""
    guarded.begin()
    told = {"follow": FOLLOW, "ws": f"{node.packages()}/package.json"}
    with asking(url_of(guarded.server), key=guarded.key, **told) as process:
        rows = [line_of(process) for _ in range(FIRST)]
        kill_workers(guarded.server)
        append_prices(guarded.root, FIRST, COUNT - FIRST)
        rows += [line_of(process) for _ in range(COUNT - FIRST)]
        found = line_of(process)
    assert rows == found["rows"] == ROWS
    assert found["states"].count("open") > 1
    told["follow"] = [*FOLLOW[:3], COUNT + 1]
    with asking(url_of(guarded.server), key=guarded.leaver, **told) as process:
        assert [line_of(process) for _ in range(COUNT)] == ROWS
        revoke_key(guarded.path, "leaves")
        ended = line_of(process)
    assert (ended["name"], ended["status"]) == ("Unauthorized", 401)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_page_of_another_origin_asks_with_a_key(guarded: Guarded, browser: Browser) -> None:
    """In Chromium, over TLS: the preflights pass, and sockets and an EventSource have tickets."""
    guarded.begin()
    server = guarded.server
    address = f"127.0.0.1:{server.tls_port}"
    counted = "zerocopy_live_records_total"
    read = server.metric(counted)

    def kill_then_append() -> None:
        poll(lambda: server.metric(counted) >= read + FIRST, "the first", DEADLINE_S)
        kill_workers(server)
        append_prices(guarded.root, FIRST, COUNT - FIRST)

    with (
        client_page(f"'self' https://{address} wss://{address}") as origin,
        ThreadPoolExecutor(1) as threads,
    ):
        writing = threads.submit(kill_then_append)
        told = (f"https://{address}", guarded.key, FOLLOW)
        found = run_page(browser, origin, "globalThis.runKeyed", *told)
        writing.result()
    symbols, missing = found["answers"]
    assert symbols["symbols"] == ["LIVE"]
    assert missing["name"] == "NotFound"
    assert (found["refused"], found["missing"]) == ("Unauthorized", "Unauthorized")
    assert found["moved"] == f"{origin} redirects, and a key is not sent elsewhere"
    assert found["live"]["rows"] == found["rows"] == ROWS
    tickets, cursors = zip(*found["sockets"], strict=True)
    assert len(tickets) >= 2
    assert None not in tickets
    assert (cursors[0], cursors[-1]) == (None, f"{DAY:%Y%m%d}.{FIRST}")
    assert found["violations"] == []
