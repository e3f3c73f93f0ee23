"""`zerocopy get` writes the records of a symbol, in every format, and never half of a file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
import pyarrow.ipc  # type: ignore[import-untyped]
import pytest

from tests.client.liar import BODY, TIMES, WHOLE, Liar, Say, response
from tests.command_line import ZEROCOPY, environment, started
from tests.commands.client.conftest import DAY, RECORDS_MAX, day_of, write_day
from tests.terminal import open_terminal
from zerocopy.commands.client import making
from zerocopy.core.layout import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.liar import Head
    from tests.commands.client.conftest import Columns, Done, Place

    Run = Callable[..., Done]

MD = ("get", "BTC-USD", "--type", "MD")
ENDINGS = ("csv", "json", "arrow", "parquet", "npz", "bin", "raw")


def read(content: bytes, ending: str) -> Columns:
    """The columns of a file, as somebody else reads it."""
    file = io.BytesIO(content)
    if ending == "npz":
        return dict(np.load(file))
    if ending == "json":
        columns = json.loads(content)["columns"]
        # null is what JSON has for NaN and infinities
        return {name: np.array(values, float) for name, values in columns.items()}
    if ending in {"bin", "raw"}:
        header = json.loads(file.readline())
        told = [
            (column["name"], column["dtype"], column["data_length"]) for column in header["columns"]
        ]
        return {name: np.frombuffer(file.read(size), dtype) for name, dtype, size in told}
    frames: dict[str, Any] = {"csv": pl.read_csv, "parquet": pl.read_parquet}
    if ending == "arrow":
        table = pyarrow.ipc.open_stream(file).read_all()
        return {name: table[name].to_numpy() for name in table.column_names}
    return {column.name: column.to_numpy() for column in frames[ending](file)}


def assert_same(found: Columns, expected: Columns, ending: str) -> None:
    """The same columns in the same order, the same values."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        got = found[name]
        if ending in {"csv", "json"}:
            got = got.astype(values.dtype)
        else:
            assert got.dtype == values.dtype
        wanted = values
        if ending == "json" and values.dtype.kind == "f":
            wanted = np.where(np.isfinite(values), values, np.nan)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("ending", ENDINGS)
def test_get_writes_every_record_in_every_format(
    zerocopy: Run, place: Place, tmp_path: Path, ending: str
) -> None:
    """More than the server computes; the name tells the format, and standard output has it too."""
    path = tmp_path / f"out.{ending}"
    names = ("time", "price", "side")
    columns = f"--columns={','.join(names)}"
    assert zerocopy(*MD, columns, "-o", str(path)) == (0, b"", "")
    expected = {name: place.columns[name] for name in names}
    assert len(expected["time"]) > RECORDS_MAX
    assert_same(read(path.read_bytes(), ending), expected, ending)
    assert os.listdir(tmp_path) == [path.name]
    form = making_format(ending)
    code, out, err = zerocopy(*MD, columns, "-o", "-", "--format", form)
    assert (code, err) == (0, "")
    assert_same(read(out, ending), expected, ending)


def making_format(ending: str) -> str:
    """The name of a format by an ending."""
    return "columns" if ending in {"bin", "raw"} else ending


@pytest.mark.parametrize("ending", ENDINGS)
def test_get_of_nothing_is_a_file_without_records(
    zerocopy: Run, place: Place, tmp_path: Path, ending: str
) -> None:
    """A range without records has columns all the same."""
    path = tmp_path / f"out.{ending}"
    done = zerocopy(*MD, "--columns=time,price", "--from=10", "--to=20", "-o", str(path))
    assert done == (0, b"", "")
    found = read(path.read_bytes(), ending)
    assert {name: len(values) for name, values in found.items()} == {"time": 0, "price": 0}
    assert place


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-10-04T06:00:00Z", "2024-10-06T08:00:00+02:00"),
        (str(DAY * DAY_S + 21_600), "20241006T060000"),
    ],
)
def test_get_takes_times_as_people_write_them(
    zerocopy: Run, place: Place, start: str, end: str
) -> None:
    """ISO 8601 with and without a zone, or unix seconds; the end is excluded."""
    done = zerocopy(*MD, "--columns=time,price", "--from", start, "--to", end)
    times = place.columns["time"].astype(int)
    inside = (times >= DAY * DAY_S + 21_600) & (times < (DAY + 2) * DAY_S + 21_600)
    expected = {name: place.columns[name][inside] for name in ("time", "price")}
    assert_same(read(done.out, "csv"), expected, "csv")


def test_get_csv_is_that_of_the_server(zerocopy: Run, place: Place) -> None:
    """Byte for byte, whether it was made here or there."""
    span = f"start={DAY * DAY_S}&end={(DAY + 1) * DAY_S}"
    asked = f"/api/data?symbol=BTC-USD&type=TRADES&columns=time,price&format=csv&{span}"
    done = zerocopy("get", "BTC-USD", "--type=TRADES", "--columns=time,price")
    assert done == (0, place.server.get(asked).content, "")


def test_get_last_records_only(zerocopy: Run, place: Place) -> None:
    """The newest of what is asked for."""
    done = zerocopy(*MD, "--columns=price", "--last=7", "--to=2024-10-05")
    expected = {"price": place.columns["price"][393:400]}
    assert_same(read(done.out, "csv"), expected, "csv")


def test_get_finds_type_and_columns_in_the_catalog(zerocopy: Run) -> None:
    """The only type and the columns that all days have; of several types one has to be chosen."""
    done = zerocopy("get", "ETH-USD")
    assert done.out.splitlines()[0] == b"time,nanos,price,side"
    assert zerocopy("get", "BTC-USD") == (
        1,
        b"",
        "zerocopy: BTC-USD has MD, TRADES: choose a type by --type\n",
    )
    assert zerocopy("get", "BTC-USD", "--type=NO").err == (
        "zerocopy: BTC-USD has no type NO: it has MD, TRADES\n"
    )


@pytest.mark.parametrize("output", ["out.csv", "out.bin", "-"])
def test_get_tells_which_days_lack_a_column(zerocopy: Run, tmp_path: Path, output: str) -> None:
    """Their records are left out, as by the server, and standard error says so."""
    path = output if output == "-" else str(tmp_path / output)
    done = zerocopy(*MD, "--columns=time,extra", "-o", path)
    content = done.out if output == "-" else (tmp_path / output).read_bytes()
    assert len(read(content, "csv" if output == "-" else output[-3:])["time"]) == 400
    assert done.code == 0
    assert done.err == "zerocopy: days that lack a column are left out: 06.10.24 (1 in all)\n"


def test_get_never_overwrites_unasked(zerocopy: Run, tmp_path: Path) -> None:
    """A file stays as it is without --force."""
    path = tmp_path / "out.csv"
    path.write_text("mine")
    arguments = (*MD, "--columns=time", "-o", str(path))
    assert zerocopy(*arguments) == (1, b"", f"zerocopy: {path}: exists; --force replaces it\n")
    assert path.read_text() == "mine"
    assert zerocopy(*arguments, "--force").code == 0
    assert path.read_text().startswith("time\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "out.txt"), 2, "must end in .csv"),
        (("--format", "xml"), 2, "--format: xml must be one of csv"),
        (("--from", "soon"), 2, "--from: 'soon' must be ISO 8601"),
        (("--from", "20", "--to", "10"), 2, "--from and --to: start 20"),
        (("--to", "2025"), 2, "must be a date such as 2025-01-01, not a year"),
        (("--url", "ftp://x"), 2, "url: 'ftp://x' must be http or https"),
        (("--key", "sec ret"), 2, "key: must be printable ASCII"),
        (("--ca", "/none.pem", "--url", "https://127.0.0.1:1"), 2, "ca: '/none.pem'"),
        (("-o", "none/out.csv"), 1, "there is no directory none"),
        (("-o", "/", "--format", "csv"), 1, "is a directory"),
        (("--columns", "nope"), 1, "column nope: no day of BTC-USD has it"),
        (("--url", "http://127.0.0.1:1"), 1, "nothing listens there"),
    ],
)
def test_get_errors_are_one_line(
    zerocopy: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """2 for wrong usage, 1 for what failed; no key is in it."""
    done = zerocopy(*MD, "--columns=time", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1), done
    assert words.lower() in done.err.lower()
    assert "sec ret" not in done.err


@pytest.mark.parametrize("ending", ["bin", "csv"])
def test_get_keeps_a_file_that_came_meanwhile(zerocopy: Run, tmp_path: Path, ending: str) -> None:
    """A download may last: what was free when it began is looked at again when it ends."""
    path = tmp_path / f"out.{ending}"

    def meanwhile(_: Head) -> Say:
        path.write_text("mine")
        return Say(WHOLE)

    arguments = (*MD, "--columns=time,price", "-o", str(path))
    with Liar(meanwhile) as liar:
        done = zerocopy(*arguments, url=liar.url)
        assert (done.code, path.read_text()) == (1, "mine")
        assert "exists; --force replaces it" in done.err
        assert zerocopy(*arguments, "--force", url=liar.url).code == 0
    assert len(read(path.read_bytes(), ending)["time"]) == len(TIMES)
    assert os.listdir(tmp_path) == [path.name]


def test_get_prints_nothing_whose_end_it_could_not_tell(zerocopy: Run) -> None:
    """Neither a length nor chunks: a break would look like the end."""
    say = Say(response(BODY, Content_Length="", Connection="close"), "close")
    with Liar(say) as liar:
        done = zerocopy(*MD, "--columns=time,price", "--format=columns", url=liar.url)
    assert (done.code, done.out) == (1, b"")
    assert "no length" in done.err


@pytest.mark.parametrize("format_", ["csv", "columns"])
def test_get_names_standard_output_where_it_is_full(place: Place, format_: str) -> None:
    """Whether the answer is made here or handed on."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*ZEROCOPY, *MD, "--columns=time", "--format", format_],
            env=environment(ZEROCOPY_URL=place.url),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"zerocopy: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("symbol", "exchange", "words"),
    [
        (
            "BTC-USD",
            "kraken",
            "exchange kraken: does not exist; BTC-USD is on coinbase: choose",
        ),
        ("btcusd", "coinbase", "symbol btcusd: does not exist; did you mean BTC-USD?"),
        ("7203.T", "coinbase", "symbol 7203.T: does not exist\n"),
    ],
)
def test_get_of_what_is_elsewhere_says_where(
    zerocopy: Run, symbol: str, exchange: str, words: str
) -> None:
    """The exchange that has the symbol, else a symbol of a similar name."""
    done = zerocopy("get", symbol, "--exchange", exchange)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert words in done.err


def test_get_without_polars_leaves_csv_to_the_server(
    zerocopy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server makes is the same; what is too much for it names another format."""
    made = zerocopy("get", "BTC-USD", "--type=TRADES").out
    monkeypatch.setattr(making, "find_spec", lambda _name: None)
    path = tmp_path / "out.csv"
    assert zerocopy("get", "BTC-USD", "--type=TRADES").out == made
    assert zerocopy("get", "BTC-USD", "--type=TRADES", "-o", str(path)).code == 0
    assert path.read_bytes() == made
    done = zerocopy(*MD, "--columns=time")
    assert (done.code, done.out) == (1, b"")
    assert "arrow" in done.err


def test_get_on_a_terminal_is_a_table(place: Place) -> None:
    """The newest records, times in UTC, no value cut however narrow the terminal is."""
    ours, theirs = open_terminal()
    with (
        open(ours, "rb", buffering=0) as terminal,
        started(
            MD,
            env=environment(ZEROCOPY_URL=place.url, COLUMNS="30"),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        os.close(theirs)
        text = b""
        try:
            while piece := terminal.read(4096):
                text += piece
        except OSError:  # EIO: the other end is closed
            pass
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(20) == 0
    head, *rows, count = text.decode().splitlines()
    assert [word for word in ("time", "price", "side") if word in head] == ["time", "price", "side"]
    assert count == "20 records"
    assert len(rows) == 20
    last = {name: values[-1] for name, values in place.columns.items()}
    moment = np.datetime64(int(last["time"]), "s") + np.timedelta64(int(last["nanos"]), "ns")
    assert rows[-1].split() == [str(moment), str(last["price"]), str(last["side"])]


class Relay:
    """Passes on to a server, and holds back what it answers beyond some bytes."""

    def __init__(self, port: int, pass_bytes: int) -> None:
        self._target = port
        self._left = pass_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the client was killed, or never came
            self._pass_on()

    def _pass_on(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            server.sendall(client.recv(65_536))
            while self._left > 0:
                piece = server.recv(min(self._left, 65_536))
                self._left -= len(piece)
                client.sendall(piece)
            self._held.wait(60)


@pytest.fixture(scope="module")
def large(place: Place) -> Columns:
    """A symbol of 4 MB, which takes long enough to be interrupted."""
    columns = {name: values for name, values in day_of(DAY, 500_000).items() if name != "side"}
    write_day(place.root, "MD", DAY, columns, symbol="LARGE")
    return columns


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_get_goes_on_where_it_broke_off(
    zerocopy: Run, place: Place, large: Columns, tmp_path: Path, number: signal.Signals
) -> None:
    """The next run fetches what is missing, no more, and leaves nothing beside the file."""
    path = tmp_path / "out.npz"
    arguments = ["get", "LARGE", "--type=MD", "--columns=time,price", "-o", str(path)]
    with (
        Relay(place.server.port, 3_000_000) as relay,
        started(
            arguments, env=environment(ZEROCOPY_URL=relay.url), stderr=subprocess.PIPE
        ) as process,
    ):
        part = tmp_path / ".out.npz.columns.part"
        deadline_s = time.monotonic() + 30
        while not part.exists() or part.stat().st_size < 2_000_000:
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130  # as a shell counts an interrupt
        assert told.decode() == (
            f"zerocopy: {path}: interrupted; the same command goes on where it broke off\n"
        )
    assert not path.exists()
    before = place.server.metric("zerocopy_sent_bytes_total")
    assert zerocopy(*arguments).code == 0
    sent = place.server.metric("zerocopy_sent_bytes_total") - before
    assert 1_000_000 < sent < 2_100_000
    assert_same(read(path.read_bytes(), "npz"), {n: large[n] for n in ("time", "price")}, "npz")
    assert os.listdir(tmp_path) == [path.name]
