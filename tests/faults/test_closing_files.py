"""A day that closes while it is sent: what was planned of an open day arrives as it was planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.client import body_of, column_path, seal, target_of, unseal, write_series
from tests.faults.download import EVERY_WAY, Download, End, download

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import RunningServer

RECORDS = 1_500_000


def is_closed(server: RunningServer, target: str) -> bool:
    """Whether the day of a target is closed for the server by now."""
    field = server.get(target, method="HEAD").fields["cache-control"]
    assert field in {"no-cache, no-transform", "public, max-age=3600, no-transform"}
    return field.startswith("public")


@EVERY_WAY
def test_day_that_closes_while_it_is_sent(bound: tuple[Path, RunningServer], way: str) -> None:
    """One answer began before the day closed, one after; then the day grows all the same.

    The first was planned of an open day and arrives whole; the second may be cut off. The day
    closes by the times of its files, which lie ahead until it does.
    """
    root, server = bound
    series = f"CLOSING-{way}"
    write_series(root, series, RECORDS)
    target, body = target_of(series, "price"), body_of(root, series, ["price"])
    with Download(server, way) as early, Download(server, way) as late:
        early.begin(target)
        assert not is_closed(server, target)
        seal(root, series)
        assert is_closed(server, target)
        late.begin(target)
        assert download(server, way, target) == End(body, is_whole=True)
        for column in ("price", "time"):
            with open(column_path(root, series, column), "ab") as file:
                file.write(bytes(4))
        unseal(root, series)
        grown = body_of(root, series, ["price"])
        assert not is_closed(server, target), "a change opens it again"
        assert download(server, way, target) == End(grown, is_whole=True)
        assert early.end() == End(body, is_whole=True)
        end = late.end()
        assert body.startswith(end.content)
        assert end.is_whole == (end.content == body)
    seal(root, series)
    assert is_closed(server, target)
    assert download(server, way, target) == End(grown, is_whole=True)
    assert server.event("worker_died") is None
