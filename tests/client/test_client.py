"""The client against the running command, in the plain and over TLS: frames equal the oracle."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.client.conftest import DAY_S, FIRST_S, RECORDS
from tests.naive import naive_answer, naive_symbols
from tests.naive_bars import naive_bars_answer
from tests.server import ForkedServer, RunningServer
from zerocopy.client import BadRequest, Client, ConnectionFailed, NotFound
from zerocopy.client.layout import frame_of

if TYPE_CHECKING:
    from zerocopy.client import Frame, TimeLike

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared/market-data"
DTYPES = {"id": "u8", "order": "S16"}
END_S = FIRST_S + 3 * DAY_S


def oracle(root: Path, first_s: int, stop_s: int, columns: str) -> Frame:
    """The frame of the records [first, stop)."""
    return frame_of(
        naive_answer(
            str(root), "coinbase", "X", "MD", first_s, stop_s - 1, columns.split(","), DTYPES
        )
    )


def assert_same(found: Frame, wanted: Frame) -> None:
    """The same columns in the same order, byte for byte, and the same skipped days."""
    assert found.columns == wanted.columns
    assert found.skipped == wanted.skipped
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype
        assert found[name].tobytes() == wanted[name].tobytes()


@pytest.mark.parametrize("columns", ["time,price", "order,id,time", "price"])
def test_all_records_equal_the_oracle(client: Client, root: Path, columns: str) -> None:
    """Of any width; a day that lacks a column is skipped, and named."""
    frame = client.data("X", columns, type="MD")
    assert_same(frame, oracle(root, 0, END_S, columns))
    assert len(frame) == RECORDS * (2 if "id" in columns else 3)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ((date(2025, 1, 31), date(2025, 2, 1)), (FIRST_S, FIRST_S + DAY_S)),
        (
            ("2025-01-31T12:00:00.5Z", "2025-02-01 00:00:07"),
            (FIRST_S + 43_201, FIRST_S + DAY_S + 7),
        ),
        ((np.datetime64("2025-02-01"), None), (FIRST_S + DAY_S, END_S)),
        ((None, FIRST_S + 60), (0, FIRST_S + 60)),
    ],
)
def test_the_end_is_exclusive(
    client: Client, root: Path, asked: tuple[TimeLike, TimeLike], seconds: tuple[int, int]
) -> None:
    """In every spelling."""
    frame = client.data("X", ["time", "price"], type="MD", start=asked[0], end=asked[1])
    assert_same(frame, oracle(root, *seconds, "time,price"))


def test_an_empty_interval_has_its_columns_and_no_records(client: Client) -> None:
    """The dtypes are the server's; a symbol that does not exist is told as ever."""
    frame = client.data("X", "time,id", type="MD", start=FIRST_S, end=FIRST_S)
    assert (len(frame), frame.columns) == (0, ("time", "id"))
    assert frame["id"].dtype == np.dtype("<u8")
    with pytest.raises(NotFound):
        client.data("NOPE", "time", type="MD", start=FIRST_S, end=FIRST_S)


def test_columns_are_aligned_views_of_one_buffer_that_nobody_writes(client: Client) -> None:
    """64 bytes, as Arrow recommends, whatever the length of the header line."""
    frame = client.data("X", "time,price,order,id", type="MD", end=FIRST_S + 1_001)
    assert {values.ctypes.data % 64 for values in frame.values()} == {0}
    owners = set()
    for values in frame.values():
        assert not values.flags.writeable
        base = values
        while isinstance(base.base, np.ndarray):
            base = base.base
        owners.add(id(base))
    assert len(owners) == 1


def test_bars_equal_the_oracle(client: Client, root: Path) -> None:
    """With the interval that was taken, in each spelling of it."""
    asked = ("X", "price,price:count")
    wanted = naive_bars_answer(str(root), "coinbase", "X", "MD", 0, END_S, asked[1], "1h")
    for interval in ("1h", 3_600, timedelta(hours=1)):
        bars = client.bars(*asked, type="MD", interval=interval)
        assert bars.interval_s == 3_600
        assert_same(bars, frame_of(wanted))
    assert client.bars(*asked, type="MD", max_points=10).interval_s == 12 * 3_600


def test_symbols_and_catalog_are_what_the_server_says(client: Client, root: Path) -> None:
    """As parsed JSON."""
    assert client.symbols() == naive_symbols(str(root))
    assert client.symbols("nowhere") == {"symbols": [], "exchanges": {"nowhere": []}}
    catalog = client.catalog("X")
    assert catalog["types"]["MD"]["days"] == 3
    with pytest.raises(NotFound, match="symbol"):
        client.catalog("NOPE")


def test_the_server_s_words_reach_the_user(client: Client) -> None:
    """The detail names the parameter and what would be right."""
    with pytest.raises(BadRequest, match="parameter interval") as caught:
        client.bars("X", "price", type="MD", interval="1 fortnight")
    assert caught.value.status == 400
    with pytest.raises(NotFound, match="column"):
        client.data("X", "time,nope", type="MD")


def test_names_travel_encoded(url: str, ca: str) -> None:
    """A name with an ampersand is one name."""
    with Client(url, ca=ca, exchange="a&b") as client, pytest.raises(NotFound, match="a&b"):
        client.data("^GSPC", "time", type="M#")


def test_many_threads_share_a_client(client: Client, root: Path) -> None:
    """Each request has a connection of its own, which the next one uses."""
    wanted = oracle(root, FIRST_S, FIRST_S + 600, "time,price")
    barrier = threading.Barrier(8)

    def ask(_: int) -> None:
        barrier.wait(20)
        for _attempt in range(5):
            frame = client.data("X", "time,price", type="MD", start=FIRST_S, end=FIRST_S + 600)
            assert_same(frame, wanted)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))


def test_a_frame_survives_pickling(client: Client) -> None:
    """With all it knows, and still not to be written."""
    frame = client.data("X", "time,id", type="MD")
    again = pickle.loads(pickle.dumps(frame))
    assert_same(again, frame)
    assert not again["time"].flags.writeable


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
def test_real_captures_equal_numpy_by_hand() -> None:
    """Many records a second, few records, many small days."""
    with ForkedServer(MARKET_DATA) as running:
        with Client(f"http://127.0.0.1:{running.port}") as client:
            seen = 0
            for exchange, symbols in client.symbols()["exchanges"].items():
                for entry in symbols:
                    catalog = client.catalog(entry["symbol"], exchange=exchange)
                    for type_, told in catalog["types"].items():
                        names = [column["name"] for column in told["columns"]]
                        folder = MARKET_DATA / exchange / entry["symbol"] / type_
                        frame = client.data(entry["symbol"], names, type=type_, exchange=exchange)
                        for name in names:
                            files = sorted(
                                folder.glob(f"{name}.*.bin"),
                                key=lambda path: path.name.split(".")[-2:-5:-1],
                            )
                            wanted = b"".join(path.read_bytes() for path in files)
                            assert frame[name].tobytes() == wanted
                        seen += 1
        assert seen > 10


def test_a_certificate_that_is_not_trusted_is_told_at_once(
    server: RunningServer, pauses: list[float]
) -> None:
    """With what to give; nothing is sent again."""
    with (
        Client(f"https://127.0.0.1:{server.tls_port}") as client,
        pytest.raises(ConnectionFailed, match=r"not trusted.*ca="),
    ):
        client.symbols()
    assert pauses == []


@pytest.mark.usefixtures("pauses")
def test_a_wrong_scheme_is_told(server: RunningServer, ca: str) -> None:
    """In both directions."""
    with (
        Client(f"https://127.0.0.1:{server.plain_port}", ca=ca) as client,
        pytest.raises(ConnectionFailed, match="plain HTTP"),
    ):
        client.symbols()
    with Client(f"http://127.0.0.1:{server.tls_port}") as client, pytest.raises(BadRequest):
        client.symbols()
