"""`zerocopy rollup`: makes what is missing, and goes on where it broke off; a server uses it."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.command_line import ZEROCOPY, environment, run_forked
from tests.faults.client import poll
from tests.naive_bars import naive_bars_answer
from tests.server import ForkedServer
from tests.storage.trees import DAY, SERIES, U32_MAX, age, put, start_of, u32
from zerocopy.storage.rollups import RECORDS_MIN

if TYPE_CHECKING:
    from pathlib import Path

DAYS = 3


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """Three days of just enough ticks with two columns, and one that has too few."""
    root = tmp_path / "data"
    for number in range(DAYS + 1):
        day = DAY + timedelta(days=number)
        count = RECORDS_MIN if number < DAYS else 10
        begin = start_of(day)
        columns = {
            "time": u32(*(begin + index * 2 for index in range(count))),
            "price": struct.pack(f"<{count}f", *(index % 977 / 7 for index in range(count))),
            "size": struct.pack(f"<{count}f", *(index % 97 for index in range(count))),
        }
        age(*put(str(root), columns, day).values())
    return root


def environ(root: Path, **others: str) -> dict[str, str]:
    """Days close at once."""
    return environment(
        DATA_PATH=str(root),
        ZEROCOPY_DATA_SETTLE_S="0",
        ZEROCOPY_ROLLUPS_PATH=str(root.parent / "rollups"),
        **others,
    )


def rolled(root: Path, *arguments: str, processes: int = 1) -> str:
    """What a run that succeeds prints; each process costs a start."""
    done = run_forked(["rollup", "--processes", str(processes), *arguments], environ(root))
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def made(root: Path) -> list[Path]:
    """The files."""
    return sorted((root.parent / "rollups").rglob("*.rollup"))


def test_what_is_missing_is_made_and_what_is_there_is_not(root: Path) -> None:
    """A column, then all of them, then what was deleted, and nothing else."""
    one = rolled(root, "--columns", "price")
    assert one == "3 made\n1 not worth one: few records, text, or times that do not ascend\n"
    assert [path.parent for path in made(root)] == [root.parent.joinpath("rollups", *SERIES)] * 3
    assert rolled(root, processes=2).startswith("3 made\n3 were there\n2 not worth one")
    before = [path.stat().st_ino for path in made(root)[1:]]
    made(root)[0].unlink()
    assert rolled(root).startswith("1 made\n5 were there\n")
    assert [path.stat().st_ino for path in made(root)[1:]] == before


def test_choice_of_series_is_kept_to(root: Path) -> None:
    """By exchange, symbol and type."""
    chosen = ("--exchange", "coinbase", "--symbol", "X", "--type", "MD")
    assert rolled(root, *chosen).startswith("6 made\n")
    for option in ("--exchange", "--symbol", "--type"):
        assert rolled(root, option, "NONE") == "no day files were chosen\n"


def test_run_that_is_killed_is_gone_on_with(root: Path) -> None:
    """SIGKILL to all its processes once something is there; the next run makes the rest."""
    with subprocess.Popen(
        [*ZEROCOPY, "rollup", "--processes", "1"],
        env=environ(root),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        poll(lambda: len(made(root)) > 0, "the first roll-up", 30)
        os.killpg(process.pid, signal.SIGKILL)
    there = len(made(root))
    text = rolled(root)
    found = re.search("^([0-9]+) were there$", text, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= there > 0
    assert len(made(root)) == 2 * DAYS
    assert [path for path in (root.parent / "rollups").rglob("*.tmp") if path.is_file()] == []


def test_bound_is_kept_and_told(root: Path) -> None:
    """Two of six fit: the others are deleted, and a note says why; the next run ends likewise."""
    rolled(root)
    nbytes = max(path.stat().st_size for path in made(root))
    bound = {"ZEROCOPY_ROLLUPS_DISK_BYTES_MAX": str(nbytes * 5 // 2)}
    for _ in range(2):
        done = run_forked(["rollup", "--processes", "1"], environ(root, **bound))
        assert done.returncode == 0
        assert b" deleted: more than [rollups] disk_bytes_max\n" in done.stdout
        assert len(made(root)) == 2


@pytest.mark.parametrize(
    ("path", "words"),
    [("", b"[rollups] path is not set"), ("/dev/null/here", b"Not a directory")],
)
def test_run_that_can_keep_nothing_fails_with_one_line(root: Path, path: str, words: bytes) -> None:
    """No directory is named, or it cannot be written."""
    done = run_forked(["rollup"], environ(root) | {"ZEROCOPY_ROLLUPS_PATH": path})
    assert done.returncode == 1
    assert done.stderr.startswith(b"zerocopy: ")
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1


WHOLE = (0, U32_MAX)
CUT = (start_of(DAY) + 1_234, start_of(DAY) + 2 * 86_400 + 4_321)


@pytest.mark.parametrize(
    "queries",
    [
        pytest.param((("1d", WHOLE), ("7m", CUT)), id="two"),
        pytest.param((("1d", CUT), ("7m", WHOLE)), id="the others", marks=pytest.mark.slow),
    ],
)
def test_server_answers_from_what_the_command_has_made(
    root: Path, queries: tuple[tuple[str, tuple[int, int]], ...]
) -> None:
    """The bytes of the naive reader, for whole and cut days; the server made nothing."""
    rolled(root)
    with ForkedServer(root, **environ(root)) as server:
        for interval, span in queries:
            columns = "price:ohlc+sum,size:mean"
            target = "/api/bars?symbol=X&type=MD&columns=" + columns.replace("+", "%2B")
            target += f"&start={span[0]}&end={span[1]}&interval={interval}"
            wanted = naive_bars_answer(str(root), *SERIES, *span, columns, interval)
            assert server.get(target).content == wanted
        assert server.metric("zerocopy_rollups_used_total") == 2 * DAYS * 2
        assert server.metric("zerocopy_rollups_made_total") == 0
        assert server.metric("zerocopy_rollup_bytes") > 0
