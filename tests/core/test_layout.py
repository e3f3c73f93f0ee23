"""Names, days and dtypes: every day of the century, every edge of a name."""

from __future__ import annotations

import calendar
import datetime as dt
import string
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import (
    DAY_S,
    U32_MAX,
    Dtypes,
    day_from_label,
    day_label,
    day_of,
    file_name,
    is_name,
    parse_dtype,
    parse_file_name,
)

EPOCH = dt.date(1970, 1, 1)
DAYS = range((dt.date(2070, 1, 1) - EPOCH).days)  # 1970 to 2069, all that two digits can say
FIRST_CHARACTERS = string.ascii_letters + string.digits + "_^"
LATER_CHARACTERS = FIRST_CHARACTERS + ".:+@=&#~-"
DTYPES = {"u1": 1, "u2": 2, "u4": 4, "u8": 8, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "f4": 4, "f8": 8}


# ---- names


@pytest.mark.parametrize(
    "name",
    ["BTC-USD", "tAAVE:USD", "BRK.B", "^GSPC", "_", "7", "a" * 64, "a..b", "x.:+@=&#~-"],
)
def test_is_name_takes_the_names_of_the_field(name: str) -> None:
    """Bitfinex, equities and indices write such names; 64 characters are the most."""
    assert is_name(name)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["", "a" * 65, "a" * 1_000], id="length"),
        pytest.param([".", "..", ".hidden", "-a", ":a"], id="first character"),
        pytest.param(["a/b", "../a", "a\\b", "a%2F"], id="separators"),
        pytest.param(["a\n", "\na", "a\r", "a\0", "a b", "a\t"], id="control characters"),
        pytest.param(["a\u0663", "\u0661", "\u00e9t\u00e9", "a\u200b"], id="other scripts"),
        pytest.param(["a,b", "a*", "a'", 'a"', "a?"], id="other punctuation"),
    ],
)
def test_is_name_refuses_what_could_leave_the_tree_or_mislead(names: list[str]) -> None:
    """65 characters, dots in front, separators, a newline at the end, unicode digits."""
    assert [name for name in names if is_name(name)] == []


def test_is_name_of_every_one_and_two_character_string_follows_the_grammar() -> None:
    """All of Latin-1 in both places against the sets the contract lists."""
    latin = [chr(code) for code in range(256)]
    assert [c for c in latin if is_name(c)] == sorted(FIRST_CHARACTERS)
    for first, later in product("a^.-/\n", latin):
        assert is_name(first + later) == (first in FIRST_CHARACTERS and later in LATER_CHARACTERS)


# ---- days


def test_day_of_is_the_utc_day() -> None:
    """The first and the last second of a day, of the epoch and of u32."""
    assert [day_of(s) for s in (0, DAY_S - 1, DAY_S, 2 * DAY_S - 1)] == [0, 0, 1, 1]
    last = dt.datetime.fromtimestamp(U32_MAX, dt.UTC).date()
    assert day_of(U32_MAX) == (last - EPOCH).days


def test_every_day_of_the_century_round_trips_through_its_label() -> None:
    """1970-01-01 to 2069-12-31: label to day is the inverse of day to label, and both are 1:1."""
    labels = [day_label(day) for day in DAYS]
    assert len(set(labels)) == len(DAYS)
    assert [day_from_label(*label.split(".")) for label in labels] == list(DAYS)
    assert labels[0] == "01.01.70"
    assert labels[-1] == "31.12.69"


def test_every_label_is_the_calendars_date_or_none() -> None:
    """Every two-digit year, every month and day and some beyond: its one date, or no day."""
    found = []
    for yy, mm, dd in product(range(100), range(15), range(35)):
        year = yy + (1900 if yy >= 70 else 2000)
        exists = 1 <= mm <= 12 and 1 <= dd <= calendar.monthrange(year, mm)[1]
        expected = (dt.date(year, mm, dd) - EPOCH).days if exists else None
        assert day_from_label(f"{dd:02}", f"{mm:02}", f"{yy:02}") == expected
        found += [expected] if exists else []
    assert sorted(day for day in found if day is not None) == list(DAYS)


@pytest.mark.parametrize(
    "label", ["29.02.25", "29.02.70", "31.04.25", "32.01.25", "00.01.25", "01.00.25", "01.13.25"]
)
def test_impossible_dates_are_no_days(label: str) -> None:
    """No roll over into the next month, and no file name with such a date."""
    assert day_from_label(*label.split(".")) is None
    assert parse_file_name(f"time.{label}.bin") is None


@pytest.mark.parametrize("label", ["29.02.00", "29.02.24", "29.02.68", "29.02.72", "29.02.96"])
def test_leap_days_are_days(label: str) -> None:
    """2000 is a leap year too, and the years on both sides of the pivot are."""
    day = day_from_label(*label.split("."))
    assert day is not None
    assert day_label(day) == label


# ---- file names


def test_every_day_file_is_found_under_its_own_day_only() -> None:
    """File names are 1:1 with days, so that none is found under two."""
    names = [file_name("price", day) for day in DAYS]
    assert len(set(names)) == len(DAYS)
    assert [parse_file_name(name) for name in names] == [("price", day) for day in DAYS]


@pytest.mark.parametrize(
    ("name", "column", "label"),
    [
        ("time.02.06.25.bin", "time", "02.06.25"),
        ("bid.1.02.06.25.bin", "bid.1", "02.06.25"),
        ("bin.02.06.25.bin", "bin", "02.06.25"),
        ("a.01.01.25.02.06.25.bin", "a.01.01.25", "02.06.25"),
        ("a.02.06.25.bin.02.06.25.bin", "a.02.06.25.bin", "02.06.25"),
        ("a..02.06.25.bin", "a.", "02.06.25"),
        ("01.02.06.25.bin", "01", "02.06.25"),
        ("a" * 64 + ".31.12.99.bin", "a" * 64, "31.12.99"),
    ],
)
def test_parse_file_name_takes_the_date_from_the_right(name: str, column: str, label: str) -> None:
    """Column names may hold dots, even what looks like another date."""
    parsed = parse_file_name(name)
    assert parsed is not None
    assert (parsed[0], day_label(parsed[1])) == (column, label)
    assert file_name(*parsed) == name


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["", "time", "time.bin", "time.02.06.25", "time.02.06.25xbin"], id="parts"),
        pytest.param(["time.2.6.25.bin", "time.02.06.2025.bin", "time.02-06-25.bin"], id="dates"),
        pytest.param(["time.02.06.25.bin.tmp", "time.02.06.25.BIN"], id="endings"),
        pytest.param(["time.02.06.25.bin\n", "time\n.02.06.25.bin"], id="newlines"),
        pytest.param([".02.06.25.bin", "02.06.25.bin", ".time.02.06.25.bin"], id="hidden"),
        pytest.param(["time.\u0660\u0662.06.25.bin", "t\u00efme.02.06.25.bin"], id="scripts"),
        pytest.param(["a" * 65 + ".02.06.25.bin", "a/b.02.06.25.bin"], id="names"),
        pytest.param(["\udcff.02.06.25.bin", "a\udcff.02.06.25.bin"], id="undecodable bytes"),
    ],
)
def test_parse_file_name_refuses_what_is_no_day_file(names: list[str]) -> None:
    """Temporary files, other spellings of dates, other scripts' digits, names no query can say."""
    assert [name for name in names if parse_file_name(name) is not None] == []


@given(st.text(alphabet=LATER_CHARACTERS + "/\n\u0661\u00e9", max_size=70), st.sampled_from(DAYS))
def test_parse_file_name_finds_exactly_the_columns_that_are_names(column: str, day: int) -> None:
    """What is written under a name is found under it; under anything else it is not."""
    expected = (column, day) if is_name(column) else None
    assert parse_file_name(file_name(column, day)) == expected


@given(st.text(alphabet="ab.0123456789bin\n", max_size=40))
def test_parse_file_name_of_any_text_is_none_or_spells_it_back(name: str) -> None:
    """No two names lead to the same column of the same day."""
    parsed = parse_file_name(name)
    assert parsed is None or file_name(*parsed) == name


# ---- dtypes


def test_dtypes_that_can_be_declared_are_those_of_numpy() -> None:
    """Spelling and bytes a record of each, judged by numpy."""
    dtypes = DTYPES | {f"S{size}": size for size in range(1, 256)}
    found = {dtype: parse_dtype("x", dtype) for dtype in dtypes}
    assert {dtype: nbytes for dtype, (_, nbytes) in found.items()} == dtypes
    for dtype, (name, nbytes) in found.items():
        judged = np.dtype(f"<{dtype}")
        assert (judged.str, judged.itemsize) == (name, nbytes)


@pytest.mark.parametrize(
    "dtypes",
    [
        pytest.param(["u0", "u3", "u16", "i5", "f1", "f2", "f16"], id="widths"),
        pytest.param(["S", "S0", "S01", "S256", "S999", "S1000"], id="lengths of strings"),
        pytest.param(["", "u", "4", "b1", "s16", "U4", "<u4", ">u4", "u4u4"], id="other spellings"),
        pytest.param(["u4\n", " u4", "S16\n", "u\u0664", "S\u0661"], id="spaces and scripts"),
    ],
)
def test_parse_dtype_refuses_other_dtypes(dtypes: list[str]) -> None:
    """What no recorder writes is the operator's mistake; the sentence says what would be right."""
    for dtype in dtypes:
        with pytest.raises(ConfigError) as raised:
            parse_dtype("x", dtype)
        assert raised.value.detail == (
            f"expected one of u1 u2 u4 u8 i1 i2 i4 i8 f4 f8 or S1 to S255, got {dtype!r}"
        )


def test_dtypes_default_to_those_of_the_contract_and_follow_what_is_declared() -> None:
    """Whole numbers by their names, prices and all else f4; ids of 8 and 16 bytes beside them."""
    declared = Dtypes({"id": "u8", "maker_order_id": "S16", "time": "u4", "side": "u1"})
    columns = ("time", "price", "id", "maker_order_id", "ID", "side", "nanos")
    assert [declared.of(column).name for column in columns] == [
        *("<u4", "<f4", "<u8", "|S16", "<f4", "|u1", "<u4")
    ]
    assert [declared.of(column).nbytes for column in columns] == [4, 4, 8, 16, 4, 1, 4]
    names = ("time", "side", "nanos", "count", "flags", "volume", "sides", "Side")
    assert [Dtypes({}).of(name).name for name in names] == ["<u4"] * 5 + ["<f4"] * 3


@pytest.mark.parametrize("dtype", ["u8", "i4", "f4", "S4", "nonsense"])
def test_dtypes_refuse_another_time(dtype: str) -> None:
    """Time is u32 on disk and in the query, or nothing can be found in it."""
    with pytest.raises(ConfigError, match="expected"):
        Dtypes({"time": dtype})


def test_dtypes_refuse_a_wrong_one_of_any_column() -> None:
    """One wrong entry stops the start."""
    with pytest.raises(ConfigError, match="'f2'"):
        Dtypes({"price": "f4", "volume": "f2"})
