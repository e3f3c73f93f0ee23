"""Files, directories, links and roots that are ruined before an answer, or amid it.

The server runs without the right to read what its mode forbids, so that mode bits bind root too.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.faults.download import (
    EVERY_WAY,
    Download,
    End,
    download,
    expect,
)
from tests.faults.ruins import (
    SMALL_RECORDS,
    Scene,
    deleted,
    exchange_linked,
    file_gone,
    file_is_directory,
    file_is_fifo,
    file_linked,
    file_linked_outside,
    file_unreadable,
    grown,
    link_to_itself,
    replaced_by_another,
    root_gone,
    root_gone_and_back,
    root_is_file,
    root_unreadable,
    symbol_gone,
    symbol_is_file,
    symbol_linked,
    symbol_replaced,
    symbol_unreadable,
    touched,
    truncated,
    truncated_and_grown,
    type_gone,
    type_is_file,
    type_linked,
    type_replaced,
    type_unreadable,
    written,
)
from tests.server import Answer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from tests.faults.ruins import Ruin

RECORDS = 1_500_000
LARGE_RECORDS = 12_000_000


@pytest.fixture
def scene(bound: tuple[Path, RunningServer]) -> Scene:
    """A place where nothing is yet."""
    root, server = bound
    used = len(os.listdir(os.path.join(root, "coinbase", "BTC-USD")))
    return Scene(root, server, f"T{used}")


NO_COLUMN = "column price: no day of BTC-USD has it"
UNREADABLE = "the data directory or a day file in it cannot be read"
STATUSES: dict[Ruin, tuple[int, str]] = {
    file_unreadable: (500, UNREADABLE),
    type_unreadable: (500, UNREADABLE),
    symbol_unreadable: (500, UNREADABLE),
    root_unreadable: (500, UNREADABLE),
    file_gone: (404, NO_COLUMN),
    type_gone: (404, "type {type}: does not exist"),
    symbol_gone: (404, "symbol BTC-USD: does not exist"),
    root_gone: (500, UNREADABLE),
    file_linked: (404, NO_COLUMN),
    file_linked_outside: (404, NO_COLUMN),
    type_linked: (404, "type {type}: does not exist"),
    symbol_linked: (404, "symbol BTC-USD: does not exist"),
    exchange_linked: (404, "exchange coinbase: does not exist"),
    link_to_itself: (404, "symbol BTC-USD: does not exist"),
    file_is_directory: (404, NO_COLUMN),
    file_is_fifo: (404, NO_COLUMN),
    type_is_file: (404, "type {type}: does not exist"),
    symbol_is_file: (404, "symbol BTC-USD: does not exist"),
    root_is_file: (500, UNREADABLE),
}
ROOTS = {root_unreadable, root_gone, root_is_file}
LINKED_ABOVE = {type_linked, symbol_linked, exchange_linked}
OVER_HTTP2 = {file_unreadable, root_gone, symbol_linked, type_replaced, file_is_fifo, type_is_file}
"""Both transports share what plans; these are enough to see that they do."""


def over_both(ruins: Iterable[Ruin]) -> list[ParameterSet]:
    """Each over HTTP/1.1, the most telling over HTTP/2 too, the others when there is time."""
    both = []
    for ruin in ruins:
        both.append(pytest.param(ruin, "http1", id=f"{ruin.__name__}-http1"))
        marks = () if ruin in OVER_HTTP2 else pytest.mark.slow
        both.append(pytest.param(ruin, "http2", marks=marks, id=f"{ruin.__name__}-http2"))
    return both


@pytest.mark.parametrize(("ruin", "way"), over_both(STATUSES))
def test_ruin_before_the_answer_is_its_status_and_undone_the_answer(
    scene: Scene, ruin: Ruin, way: str
) -> None:
    """A status and a sentence that name no path; the same question is right before and after.

    Where a directory was moved and linked back, an answer given before is still proved by the very
    same file, and may be given again: its bytes are right.
    """
    body = written(scene, SMALL_RECORDS, is_closed=True)
    assert download(scene.server, way, scene.target) == End(body, is_whole=True)
    undo = ruin(scene)
    try:
        refused = download(scene.server, way, scene.target)
        ready = scene.server.get("/readyz").status
        alive = scene.server.get("/healthz").status
    finally:
        undo()
    assert (ready, alive) == (503 if ruin in ROOTS else 200, 200)
    assert download(scene.server, way, scene.target) == End(body, is_whole=True)
    scene.is_well(way)
    if ruin in LINKED_ABOVE and isinstance(refused, End):
        assert refused == End(body, is_whole=True)
        return
    status, detail = STATUSES[ruin]
    assert isinstance(refused, Answer)
    assert refused.status == status
    assert refused.fields["content-type"] == "application/problem+json"
    assert json.loads(refused.content)["detail"] == detail.format(type=scene.type)
    assert str(scene.root).encode() not in refused.content


AMID = (
    file_unreadable,
    file_linked_outside,
    file_is_directory,
    symbol_linked,
    root_unreadable,
    root_gone,
    root_gone_and_back,
    replaced_by_another,
    type_replaced,
    symbol_replaced,
    deleted,
)


def check_amid(scene: Scene, ruin: Ruin, way: str, records: int) -> None:
    """Ruin while a client does not read; whatever became of the names, all of it arrives."""
    body = written(scene, records, is_closed=int(scene.type[1:]) % 2 == 0)
    with Download(scene.server, way) as under_way:
        under_way.begin(scene.target)
        undo = ruin(scene)
        try:
            end = under_way.end()
        finally:
            undo()
    expect(end, body)
    assert end.is_whole
    scene.is_well(way)


@pytest.mark.parametrize(("ruin", "way"), over_both(AMID))
def test_names_ruined_amid_a_transfer_leave_the_promised_bytes(
    scene: Scene, ruin: Ruin, way: str
) -> None:
    """The file that was promised is open: whatever becomes of its name, it arrives whole."""
    check_amid(scene, ruin, way, RECORDS)


@pytest.mark.slow
@EVERY_WAY
@pytest.mark.parametrize("ruin", dict.fromkeys([*AMID, *STATUSES]), ids=lambda ruin: ruin.__name__)
def test_names_ruined_amid_a_large_transfer_leave_the_promised_bytes(
    scene: Scene, ruin: Ruin, way: str
) -> None:
    """The same with 48 MB, and over HTTP/1.1 in TLS too."""
    check_amid(scene, ruin, way, LARGE_RECORDS)


@EVERY_WAY
@pytest.mark.parametrize("change", [grown, truncated, truncated_and_grown, touched])
def test_file_of_a_closed_day_changed_amid_a_transfer_aborts(
    scene: Scene, change: Callable[[Scene], None], way: str
) -> None:
    """It is no longer what was promised: what came is right, and it ends as cut off."""
    body = written(scene, RECORDS, is_closed=True)
    aborted = scene.server.metric("zerocopy_transfers_aborted_total")
    with Download(scene.server, way) as under_way:
        under_way.begin(scene.target)
        change(scene)
        end = under_way.end()
    expect(end, body)
    assert not end.is_whole
    metric = "zerocopy_transfers_aborted_total"
    poll(lambda: scene.server.metric(metric) == aborted + 1, "the transfer to be counted")
    assert scene.server.logged("transfer_aborted")
    assert download(scene.server, way, scene.target) == End(scene.body, is_whole=True)
    scene.is_well(way)


@EVERY_WAY
@pytest.mark.parametrize("change", [grown, touched])
def test_file_of_an_open_day_that_grows_amid_a_transfer_is_sent_as_planned(
    scene: Scene, change: Callable[[Scene], None], way: str
) -> None:
    """A recorder appends: what was promised arrives, and the next answer has the rest."""
    body = written(scene, RECORDS, is_closed=False)
    with Download(scene.server, way) as under_way:
        under_way.begin(scene.target)
        change(scene)
        end = under_way.end()
    assert end == End(body, is_whole=True)
    scene.is_well(way)


@EVERY_WAY
def test_answer_promised_before_a_link_took_its_place_is_never_cut_off_twice(
    scene: Scene, way: str
) -> None:
    """The first open(2) that finds the link ends what was promised; then it is told as a status."""
    body = written(scene, 100_000, is_closed=True)
    assert download(scene.server, way, scene.target) == End(body, is_whole=True)
    undo = type_linked(scene)
    try:
        answers = [download(scene.server, way, scene.target) for _ in range(3)]
    finally:
        undo()
    for answer in answers:
        if isinstance(answer, End):
            expect(answer, body)
        else:
            assert answer.status == 404
    scene.is_well(way)
