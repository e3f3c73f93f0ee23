"""A day that closes while it is sent: what was planned of an open day arrives as it was planned."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import body_of, column_path, poll, target_of, write_series
from tests.faults.download import BOTH_LISTENERS, EVERY_WAY, Download, End, download
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = 1_500_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A server that takes a past day for closed a second after its last change."""
    root = tmp_path_factory.mktemp("closing")
    write_series(root, "OTHER", 10)
    with RunningServer(root, **BOTH_LISTENERS, ZEROCOPY_DATA_SETTLE_S="1") as server:
        yield root, server
    shutil.rmtree(root)


def is_closed(server: RunningServer, target: str) -> bool:
    """Whether the day of a target is closed for the server by now."""
    field = server.get(target, method="HEAD").fields["cache-control"]
    assert field in {"no-cache, no-transform", "public, max-age=3600, no-transform"}
    return field.startswith("public")


@EVERY_WAY
def test_day_that_closes_while_it_is_sent(shared: tuple[Path, RunningServer], way: str) -> None:
    """One answer began before the day closed, one after; then the day grows all the same.

    The first was planned of an open day and arrives whole; the second may be cut off.
    """
    root, server = shared
    write_series(root, way, RECORDS)
    target, body = target_of(way, "price"), body_of(root, way, ["price"])
    paths = [column_path(root, way, column) for column in ("price", "time")]
    with ExitStack() as stack:
        while True:
            for path in paths:
                os.utime(path)
            early = stack.enter_context(Download(server, way))
            early.begin(target)
            if not is_closed(server, target):
                break  # else this machine was too slow: once more
        late = stack.enter_context(Download(server, way))
        poll(lambda: is_closed(server, target), "the day to close")
        late.begin(target)
        assert download(server, way, target) == End(body, is_whole=True)
        for path in paths:
            with open(path, "ab") as file:
                file.write(bytes(4))
        grown = body_of(root, way, ["price"])
        assert not is_closed(server, target), "a change opens it again"
        assert download(server, way, target) == End(grown, is_whole=True)
        assert early.end() == End(body, is_whole=True)
        end = late.end()
        assert body.startswith(end.content)
        assert end.is_whole == (end.content == body)
    poll(lambda: is_closed(server, target), "the day to close again")
    assert download(server, way, target) == End(grown, is_whole=True)
    assert server.event("worker_died") is None
