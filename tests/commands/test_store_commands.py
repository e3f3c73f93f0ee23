"""The commands over an object store: symbols, query, prefetch, import --to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.command_line import environment, run_forked
from tests.naive import naive_answer
from tests.standin import BUCKET, CREDENTIALS, Standin, environ_of, error_reply, standin
from tests.storage.trees import DAY, DAY_S, DAY_START_S, SERIES, marks, put, u32

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

URL = f"s3://{BUCKET}/p"
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(name="bucket")
def fixture_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """Three days of a symbol, in a bucket of the test's own: some put files there."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    root = tmp_path_factory.mktemp("root")
    for number in range(3):
        times = u32(*range(DAY_START_S + number * DAY_S, DAY_START_S + number * DAY_S + 50))
        day = DAY + timedelta(days=number)
        put(str(root), {"time": times, "price": marks(50), "size": marks(50)}, day)
    with standin() as bucket:
        bucket.upload(root, "p/")
        yield bucket


def run(
    bucket: Standin, cache: Path, *arguments: str, given: bytes = b"", **environ: str
) -> subprocess.CompletedProcess[bytes]:
    """A command over the store."""
    options = {"DATA_PATH": URL, **environ_of(bucket.url, cache), **environ}
    return run_forked(arguments, environment(**options), given=given)


def test_symbols_and_query_read_the_store(bucket: Standin, tmp_path: Path) -> None:
    """As a server over it answers."""
    listed = run(bucket, tmp_path, "symbols", "--json")
    assert orjson.loads(listed.stdout)["symbols"] == [SERIES.symbol], listed.stderr
    span = ("0", "4294967295", "time,price", f"--exchange={SERIES.exchange}")
    done = run(bucket, tmp_path, "query", SERIES.symbol, SERIES.type, *span, "--output", "-")
    with_files = tmp_path / "root"
    for name, stored in bucket.objects.items():
        path = with_files / name.removeprefix("p/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored.content)
    expected = naive_answer(str(with_files), *SERIES, 0, 2**32 - 1, ["time", "price"])
    assert done.stdout == expected, done.stderr


def test_prefetch_fetches_what_was_chosen_and_says_what_it_could_not(
    bucket: Standin, tmp_path: Path
) -> None:
    """`time` goes with every column; again nothing is asked for; a fault is one line and exit 1."""
    bucket.requests.clear()
    chosen = ("prefetch", "--columns=price", "--last-days=2")
    done = run(bucket, tmp_path, *chosen)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"4 of 4 files" in done.stdout
    labels = [f"{DAY + timedelta(days=number):%d.%m.%y}" for number in (1, 2)]
    fetched = {name.rpartition("/")[2] for name in bucket.fetched()}
    assert fetched == {f"{column}.{label}.bin" for column in ("time", "price") for label in labels}
    bucket.requests.clear()
    assert run(bucket, tmp_path, *chosen).returncode == 0
    assert bucket.fetched() == []
    none = run(bucket, tmp_path, "prefetch", "--symbol=NONE")
    assert none.stdout == b"no day files were chosen\n"
    bucket.fault = lambda method, name: (
        error_reply(403, "ExpiredToken") if method == "GET" and name else None
    )
    failed = run(bucket, tmp_path, "prefetch")
    bucket.fault = lambda _method, _name: None
    assert failed.returncode == 1
    assert failed.stderr.count(b"\n") == 1
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"].encode() not in failed.stderr


def test_import_puts_its_days_into_a_store(bucket: Standin, tmp_path: Path) -> None:
    """Whole, besides writing them; the same command again puts nothing."""
    pytest.importorskip("polars", reason="the extra import is not installed")
    (tmp_path / "trades.csv").write_text("time,price\n1735689599,2.5\n1735689600,3.5\n")
    arguments = (
        *("import", str(tmp_path / "trades.csv"), "--root", str(tmp_path / "new")),
        *("--exchange=kraken", "--symbol=NEW", "--type=TRADES", "--map=price=price", f"--to={URL}"),
    )
    done = run(bucket, tmp_path / "cache", *arguments, ZEROCOPY_LIVE_ANNOUNCE=NOBODY)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"appends are not announced: ") == 1
    assert b"6 files, 24 bytes" in done.stdout
    for name in ("time.31.12.24.bin", "price.01.01.25.bin"):
        stored = bucket.objects[f"p/kraken/NEW/TRADES/{name}"].content
        assert stored == (tmp_path / "new/kraken/NEW/TRADES" / name).read_bytes()
    again = run(bucket, tmp_path / "cache", *arguments)
    assert b"0 files, 0 bytes" in again.stdout, again.stderr


def test_recorder_puts_days_that_are_over_into_a_store(bucket: Standin, tmp_path: Path) -> None:
    """At its end at the latest; files and objects are the same bytes.

    A Redis that is away is told of once, and nothing waits for it.
    """
    row = '{"time":%d,"symbol":"R","price":1.5}\n'
    rows = (row % 1_748_736_000 + row % 1_748_822_400).encode()
    arguments = ("record", "--root", str(tmp_path), "--exchange=e", "--type=T", f"--to={URL}")
    done = run(bucket, tmp_path / "cache", *arguments, f"--announce={NOBODY}", given=rows)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"appends are not announced: ") == 1
    found = {name for name in bucket.objects if name.startswith("p/e/R/T/")}
    assert {name.rpartition("/")[2] for name in found} == {
        f"{column}.{label}.bin"
        for column in ("time", "nanos", "price")
        for label in ("01.06.25", "02.06.25")
    }
    for name in found:
        assert bucket.objects[name].content == (tmp_path / name.removeprefix("p/")).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (("verify",), {}, b"is an object store: name a directory"),
        (("prefetch",), {"DATA_PATH": "/tmp"}, b"is no object store"),
        (("check-config",), {"ZEROCOPY_S3_CACHE_PATH": ""}, b"[s3] cache_path"),
        (("check-config",), {"ZEROCOPY_LIVE_ANNOUNCE": "http://x"}, b"ZEROCOPY_LIVE_ANNOUNCE"),
        (("check-config",), {"DATA_PATH": "wrong://bucket"}, b"wrong://bucket is no object store"),
        (("check-config",), {"DATA_PATH": "s3://key:hid/den@bucket"}, b"credentials do not belong"),
    ],
)
def test_what_cannot_be_is_one_line(
    bucket: Standin,
    tmp_path: Path,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    words: bytes,
) -> None:
    """It names the option, and the start stops; a password is not repeated."""
    done = run(bucket, tmp_path, *arguments, given=b"", **environ)
    assert done.returncode == 1
    assert b"hid/den" not in done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1
