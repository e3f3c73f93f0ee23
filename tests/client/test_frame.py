"""Frames: a mapping of columns, their times, and other libraries' tables over the same memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.client.liar import columns_body
from zerocopy.client import Error, Frame, MissingPackage
from zerocopy.client.layout import frame_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME = np.array([0, 60, 60, 86_400 * 365], "<u4")
COLUMNS: dict[str, NDArray[np.generic]] = {
    "time": TIME,
    "nanos": np.array([1, 2, 3, 999_999_999], "<u4"),
    "price": np.array([1.5, np.nan, -np.inf, 3], "<f4"),
    "id": np.array([1, 2, 2**63, 2**64 - 1], "<u8"),
    "order": np.array([b"a\0b", b"", b"xyz", b"\xff" * 4], "S4"),
    "flag": np.array([0, 1, 2, 255], "u1"),
}
PLAIN = {name: COLUMNS[name] for name in ("time", "price")}


def frame(columns: dict[str, NDArray[np.generic]] = COLUMNS, **others: object) -> Frame:
    """As it comes from a server."""
    return frame_of(columns_body(columns, **others))


def test_a_frame_is_a_mapping_of_arrays() -> None:
    """In the order that was asked for; its length is that of a column."""
    made = frame()
    assert list(made) == list(made.columns) == list(COLUMNS)
    assert len(made) == 4
    assert "price" in made
    assert "nope" not in made
    with pytest.raises(KeyError):
        made["nope"]
    assert {name: values.tobytes() for name, values in made.items()} == {
        name: values.tobytes() for name, values in COLUMNS.items()
    }
    assert made.nbytes == 4 * (4 + 4 + 4 + 8 + 4 + 1)
    assert made == made  # noqa: PLR0124 - frames are compared by identity, not element by element
    assert made != frame()
    assert len({made, made}) == 1


def test_columns_cannot_be_written() -> None:
    """Tables of polars and Arrow share their memory."""
    with pytest.raises(ValueError, match="read-only"):
        frame()["price"][0] = 1


def test_a_slice_is_a_frame_over_the_same_memory() -> None:
    """With what the whole one knows."""
    made = frame(PLAIN, cursor="20250131.4", skipped=["31.01.25"])
    part = made[1:3]
    assert part["time"].tolist() == [60, 60]
    assert np.shares_memory(part["price"], made["price"])
    assert (part.cursor, part.skipped) == ("20250131.4", ("31.01.25",))
    assert len(made[::-2]) == 2
    assert np.array_equal(part.time, made.time[1:3])


def test_times_are_seconds_or_with_nanos_nanoseconds() -> None:
    """As datetime64, computed once."""
    assert frame(PLAIN).time.dtype == "M8[s]"
    assert str(frame(PLAIN).time[3]) == "1971-01-01T00:00:00"
    made = frame()
    assert made.time.dtype == "M8[ns]"
    assert str(made.time[3]) == "1971-01-01T00:00:00.999999999"
    assert made.time is made.time
    wide = COLUMNS | {"nanos": COLUMNS["nanos"].astype("<u8")}
    assert np.array_equal(frame(wide).time, made.time)
    latest = frame({"time": np.array([2**32 - 1], "<u4")})
    assert str(latest.time[0]) == "2106-02-07T06:28:15"
    with pytest.raises(KeyError, match="ask for it"):
        _ = frame({"price": COLUMNS["price"]}).time


@pytest.mark.parametrize("columns", [COLUMNS, PLAIN], ids=["all", "plain"])
def test_tables_have_the_same_values(columns: dict[str, NDArray[np.generic]]) -> None:
    """Of every dtype, bytes with their NULs."""
    made = frame(columns)
    tables = {
        "polars": made.to_polars().to_dict(as_series=False),
        "pandas": made.to_pandas().to_dict("list"),
        "arrow": made.to_arrow().to_pydict(),
    }
    for table in tables.values():
        assert list(table) == list(columns)
        for name, values in columns.items():
            wanted = values.view("V4").tolist() if values.dtype.kind == "S" else values.tolist()
            assert repr(table[name]) == repr(wanted)


def test_tables_share_the_memory_of_numbers() -> None:
    """Nothing is copied: the addresses are the same."""
    made = frame(PLAIN)
    address = made["price"].ctypes.data
    arrow = made.to_arrow()
    assert arrow["price"].chunk(0).buffers()[1].address == address
    assert made.to_polars()["price"].to_numpy(allow_copy=False).ctypes.data == address
    assert made.to_pandas()["price"].to_numpy().ctypes.data == address


def test_tables_outlive_their_frame() -> None:
    """They hold the memory."""
    made = frame(PLAIN)
    tables = made.to_polars(), made.to_pandas(), made.to_arrow()
    del made
    assert [table["time"][1] for table in tables[:2]] == [60, 60]
    assert tables[2]["time"][1].as_py() == 60


def test_datetimes_where_they_are_wanted() -> None:
    """The column `time` in its place, as each library has it."""
    made = frame(PLAIN)
    assert str(made.to_polars(datetimes=True).schema["time"]).startswith("Datetime")
    assert str(made.to_pandas(datetimes=True).dtypes["time"]) == "datetime64[s]"
    assert str(made.to_arrow(datetimes=True).schema.field("time").type) == "timestamp[s]"
    assert list(made.to_arrow(datetimes=True).column_names) == ["time", "price"]
    assert made["time"].dtype == "<u4"


def test_polars_has_the_same_datetimes_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit too: polars has no whole seconds, so they are in ms by either way."""
    made = frame(PLAIN)
    by_arrow = made.to_polars(datetimes=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    copied = made.to_polars(datetimes=True)
    assert copied.schema == by_arrow.schema
    assert copied.equals(by_arrow)


def test_a_frame_without_records_is_one() -> None:
    """In every shape."""
    made = frame({name: values[:0] for name, values in COLUMNS.items()})
    assert len(made) == len(made.time) == 0
    assert made.to_polars().shape == made.to_pandas().shape == made.to_arrow().shape == (0, 6)
    assert repr(made).splitlines()[-1] == "0 records"
    assert made["id"].dtype == "<u8"


def test_polars_without_pyarrow_has_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same values."""
    wanted = frame().to_polars()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert frame().to_polars().equals(wanted, null_equal=True)


@pytest.mark.parametrize("package", ["polars", "pandas", "pyarrow"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, as an ImportError."""
    monkeypatch.setitem(sys.modules, package, None)
    ask = getattr(frame(), f"to_{package.removeprefix('py')}")
    with pytest.raises(ImportError, match=f"pip install {package}") as caught:
        ask()
    assert isinstance(caught.value, MissingPackage)
    assert isinstance(caught.value, Error)


def test_a_repr_is_a_small_table() -> None:
    """The first and the last records, times as such."""
    assert repr(frame(PLAIN, skipped=["31.01.25"])).splitlines() == [
        "time                 price",
        "1970-01-01T00:00:00    1.5",
        "1970-01-01T00:01:00    nan",
        "1970-01-01T00:01:00   -inf",
        "1971-01-01T00:00:00    3.0",
        "4 records, 1 day skipped",
    ]
    many = frame({"time": np.arange(1_000, dtype="<u4")}, interval_s=1, cursor="19700101.1000")
    lines = repr(many).splitlines()
    assert len(lines) == 13
    assert lines[6].strip() == "…"
    assert lines[-1] == "1,000 records, bars of 1 s, cursor 19700101.1000"
    assert "610062" in repr(frame())  # bytes that are no text


def test_a_notebook_gets_a_table() -> None:
    """Nothing in it is markup of the data."""
    made = frame({"time": TIME, "<b>": np.array([b"<i>"] * 4, "S4")})
    page = made._repr_html_()
    assert page.count("<tr>") == 5
    assert "<b>" not in page
    assert "<i>" not in page
    assert "4 records" in page
