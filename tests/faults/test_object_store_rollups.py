"""Bars over an object store come from roll-ups as over files, and need no file that those spare."""

from __future__ import annotations

import shutil
import struct
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.command_line import environment, run
from tests.faults.stored import TWO_WORKERS, poll, serving, stored
from tests.naive_bars import naive_bars_answer
from tests.standin import BUCKET, environ_of
from tests.storage.trees import DAY, DAY_START_S, SERIES, U32_MAX, put, start_of, u32
from zerocopy.storage.rollups import RECORDS_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server import RunningServer
    from tests.standin import Standin

DAYS = 3


@pytest.fixture(scope="module", name="root")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of just enough ticks."""
    root = tmp_path_factory.mktemp("root")
    for number in range(DAYS):
        day = DAY + timedelta(days=number)
        begin = start_of(day)
        columns = {
            "time": u32(*(begin + index * 2 for index in range(RECORDS_MIN))),
            "price": struct.pack(f"<{RECORDS_MIN}f", *(n % 977 / 7 for n in range(RECORDS_MIN))),
        }
        put(str(root), columns, day)
    return root


@pytest.fixture(name="bucket")
def fixture_bucket(root: Path) -> Iterator[Standin]:
    """A store that has them."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    with stored(root) as bucket:
        yield bucket


def bars(server: RunningServer, start_s: int = 0) -> bytes:
    """Bars of an hour of all days."""
    names = f"exchange={SERIES.exchange}&symbol={SERIES.symbol}&type={SERIES.type}"
    asked = f"/api/bars?{names}&start={start_s}&end={U32_MAX}&columns=price&interval=1h"
    answer = server.get(asked)
    assert answer.status == 200
    return answer.content


def expected(root: Path, start_s: int = 0) -> bytes:
    """What the oracle answers."""
    return naive_bars_answer(str(root), *SERIES, start_s, U32_MAX, "price", "1h")


def test_bars_over_a_store_have_roll_ups_made_and_use_them(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """Kept in the cache they outlive its copies: those of days that lie whole are not fetched."""
    whole, cut = expected(root), expected(root, DAY_START_S + 7)
    with serving(bucket, tmp_path, **TWO_WORKERS) as server:
        assert bars(server) == whole
        poll(lambda: server.metric("zerocopy_rollups_made_total") >= DAYS)
        assert bars(server, start_s=1) == whole  # a query of its own: the first one's is kept
        assert server.metric("zerocopy_rollups_used_total") >= DAYS
    assert len(list((tmp_path / "rollups").rglob("*.rollup"))) == DAYS
    shutil.rmtree(tmp_path / "data")
    bucket.requests.clear()
    with serving(bucket, tmp_path) as server:
        assert bars(server, DAY_START_S + 7) == cut
        assert bars(server) == whole
        days = {name.split(".", 1)[1] for name in bucket.fetched()}
        assert days == {f"{DAY:%d.%m.%y}.bin"}


def test_rollup_command_makes_those_of_a_store(bucket: Standin, root: Path, tmp_path: Path) -> None:
    """A day's files are fetched for it; the server uses what was made from its first query on."""
    options = {"DATA_PATH": f"s3://{BUCKET}/p", **environ_of(bucket.url, tmp_path)}
    done = run(["rollup", "--processes", "1"], env=environment(**options))
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"3 made\n")
    with serving(bucket, tmp_path) as server:
        assert bars(server) == expected(root)
        assert server.metric("zerocopy_rollups_used_total") == DAYS
        assert server.metric("zerocopy_rollups_made_total") == 0
