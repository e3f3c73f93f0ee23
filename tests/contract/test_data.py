"""/api/data over the wire: exact bytes, columns in order, names as they are on disk."""

from __future__ import annotations

import os
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.contract.site import Site, data_of, data_target, header_of, serve
from tests.faults.client import poll
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    U32_MAX,
    marks,
    path_of,
    put,
    start_of,
    u32,
)
from tests.table import each
from zerocopy.commands.development.sample_data import SYMBOLS_ODD
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.transports import Transport

NEXT_DAY = DAY + timedelta(days=1)
MIDNIGHT_S = DAY_START_S + 86_400
MANY = 60_000


@pytest.fixture
def two_days(site: Site, series: Series) -> Series:
    """Three records, two of them in one second, then two on the next day; four widths."""
    first = {"time": u32(DAY_START_S, DAY_START_S + 5, DAY_START_S + 5), "price": marks(3)}
    first |= {"id": marks(3, 8, base=100), "order": marks(3, 16, base=200)}
    put(site.root, first, DAY, series)
    second = {"time": u32(MIDNIGHT_S, MIDNIGHT_S + 86_399), "price": marks(2, base=3)}
    second |= {"id": marks(2, 8, base=103), "order": marks(2, 16, base=203)}
    put(site.root, second, NEXT_DAY, series)
    return series


def test_data_is_one_exact_line_then_the_columns(site: Site, two_days: Series) -> None:
    """The literal bytes: compact JSON, keys in order, one LF, days ascending, nothing between."""
    answer = site.data(two_days, columns=("price", "time"))
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/octet-stream"
    assert answer.content == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":5,"data_length":20,"dtype":"<f4"},'
        b'{"name":"time","record_size":4,"num_records":5,"data_length":20,"dtype":"<u4"}]}\n'
        + marks(5)
        + u32(DAY_START_S, DAY_START_S + 5, DAY_START_S + 5, MIDNIGHT_S, MIDNIGHT_S + 86_399)
    )
    assert answer.fields["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    "columns",
    [
        ("time",),
        ("order",),
        ("time", "price", "id", "order"),
        ("order", "id", "price", "time"),
        ("id", "time", "order"),
    ],
)
def test_data_keeps_the_order_and_the_widths_of_columns(
    site: Site, two_days: Series, columns: tuple[str, ...]
) -> None:
    """As asked for; 8-byte and 16-byte columns beside those of 4."""
    answer = site.data(two_days, columns=columns)
    assert answer.content == site.expected(two_days, columns=columns)
    sizes = {column["name"]: column["record_size"] for column in header_of(answer)["columns"]}
    assert sizes == {name: {"id": 8, "order": 16}.get(name, 4) for name in columns}
    assert list(sizes) == list(columns)


@pytest.mark.parametrize(
    ("start_s", "end_s", "records"),
    [
        (0, U32_MAX, 5),
        (DAY_START_S, DAY_START_S, 1),
        (DAY_START_S + 5, DAY_START_S + 5, 2),
        (DAY_START_S + 1, DAY_START_S + 4, 0),
        (DAY_START_S + 5, MIDNIGHT_S, 3),
        (MIDNIGHT_S - 1, MIDNIGHT_S - 1, 0),
        (MIDNIGHT_S, MIDNIGHT_S, 1),
        (MIDNIGHT_S + 1, U32_MAX, 1),
        (MIDNIGHT_S + 86_400, U32_MAX, 0),
        (U32_MAX, U32_MAX, 0),
        (0, 0, 0),
    ],
)
def test_data_both_ends_are_inclusive(
    site: Site, two_days: Series, start_s: int, end_s: int, records: int
) -> None:
    """Every record inside, every duplicate, none outside; as many in each column."""
    answer = site.data(two_days, start_s, end_s, ("id", "time"))
    assert answer.content == site.expected(two_days, start_s, end_s, ("id", "time"))
    assert {column["num_records"] for column in header_of(answer)["columns"]} == {records}


def test_data_leading_zeros_are_digits(site: Site, two_days: Series) -> None:
    """`start=007` is seven."""
    target = data_target(two_days, 7, U32_MAX)
    assert site.ask(target.replace("start=7", "start=0000000000007")).content == site.expected(
        two_days
    )


def test_data_more_than_64_kib_is_exact(site: Site, series: Series) -> None:
    """An answer that the kernel sends: the same rules, byte for byte."""
    times = u32(*(DAY_START_S + index // 4 for index in range(MANY)))
    put(site.root, {"time": times, "price": marks(MANY), "id": marks(MANY, 8)}, series=series)
    for columns in (("time",), ("id", "price", "time")):
        for start_s, end_s in ((0, U32_MAX), (DAY_START_S + 17, DAY_START_S + MANY // 4 - 17)):
            answer = site.data(series, start_s, end_s, columns)
            first, stop = (
                max(0, 4 * (start_s - DAY_START_S)),
                min(MANY, 4 * (end_s - DAY_START_S + 1)),
            )
            bodies = {"time": times[4 * first : 4 * stop]}
            bodies["price"] = marks(stop - first, base=first)
            bodies["id"] = marks(stop - first, 8, base=first)
            assert data_of(answer) == b"".join(bodies[column] for column in columns)
            assert int(answer.fields["content-length"]) == len(answer.content) > 65_536


def test_data_many_days_of_both_centuries_are_in_order(site: Site, series: Series) -> None:
    """120 days from 1999 into 2000, both ends of the calendar, and gaps."""
    days = [date(1999, 11, 1) + timedelta(days=index) for index in range(120) if index % 7]
    for day in [date(1970, 1, 1), *days, date(2069, 12, 31)]:
        start_s = start_of(day)
        put(
            site.root,
            {"time": u32(start_s, start_s + 86_399), "price": u32(start_s, 1)},
            day,
            series,
        )
    for start_s, end_s in ((0, U32_MAX), (start_of(days[3]) + 1, start_of(days[-2]))):
        assert site.data(series, start_s, end_s).content == site.expected(series, start_s, end_s)


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_data_head_is_get_without_content(site: Site, series: Series, *, small: bool) -> None:
    """The same status and the same fields, Content-Length among them."""
    count = 10 if small else MANY
    columns = {"time": u32(*range(count)), "price": marks(count)}
    for path in put(site.root, columns, date(1970, 1, 1), series).values():
        os.utime(path, (86_400, 86_400))  # Last-Modified is never of the second that runs
    target = data_target(series)
    for path in (target, target + "x", "/api/symbols", "/healthz", "/readyz", "/openapi.json"):
        get, head = site.ask(path), site.ask(path, method="HEAD")
        assert head.content == b""
        assert get.status == head.status
        assert without_date(head.fields) == without_date(get.fields)
        assert int(head.fields["content-length"]) == len(get.content)
        assert list(head.fields) == list(get.fields)


def without_date(fields: dict[str, str]) -> dict[str, str]:
    """The fields that do not depend on when they were sent."""
    return {name: value for name, value in fields.items() if name != "date"}


def test_data_exchange_defaults_to_coinbase(site: Site, two_days: Series) -> None:
    """Without `exchange` the answer is that of coinbase."""
    target = data_target(two_days)
    assert "exchange=coinbase&" in target
    assert site.ask(target.replace("exchange=coinbase&", "")).content == site.expected(two_days)


def test_data_unknown_parameters_are_ignored(site: Site, two_days: Series) -> None:
    """Before, after, repeated, empty, without a value, in any script."""
    target, expected = data_target(two_days), site.expected(two_days)
    for extra in (
        "x=1",
        "x=1&x=2",
        "x",
        "x=",
        "=",
        "&&",
        "Symbol=Y",
        "%C3%A9=1",
        "a;b=c",
        "end%20=5",
    ):
        assert site.ask(f"{target}&{extra}").content == expected
        assert site.ask(target.replace("?", f"?{extra}&")).content == expected


def test_data_unknown_parameter_that_is_no_utf8_is_ignored_too(
    site: Site, two_days: Series
) -> None:
    """Forms decode any bytes (WHATWG URL, 5.1); what is ignored cannot be malformed."""
    answer = site.ask(f"{data_target(two_days)}&x=%FF&%FE=1")
    assert answer.content == site.expected(two_days)


@each("symbol", [*SYMBOLS_ODD, "a", "9", "_", "^", "x" * 64, "a..b", "A.", "a~b"])
def test_data_legal_names_work_in_every_place(site: Site, symbol: str) -> None:
    """As symbol, exchange, type and column; every byte percent-encoded, or none that may stay."""
    odd = Series(symbol, symbol, symbol)
    put(site.root, {"time": u32(DAY_START_S), symbol: marks(1, base=7)}, DAY, odd)
    everything = "".join(f"%{byte:02X}" for byte in symbol.encode())
    lower = everything.lower()
    for text in (quote(symbol, safe=""), everything, lower):
        target = (
            f"/api/data?exchange={text}&symbol={text}&type={text}&start=0&end={U32_MAX}"
            f"&columns=time%2C{text}"
        )
        answer = site.ask(target)
        assert answer.content == site.expected(odd, columns=("time", symbol))
    assert data_of(answer) == u32(DAY_START_S) + marks(1, base=7)


def test_data_names_may_come_without_encoding_where_a_form_allows(site: Site) -> None:
    """`tAAVE:USD`, `BRK.B`, `^GSPC`, `ES=F` and `PI_XBTUSD@q` as users type them."""
    for symbol in ("tAAVE:USD", "BRK.B", "^GSPC", "ES=F", "PI_XBTUSD@q"):
        plain = Series("bitfinex", symbol, "MD")
        put(site.root, {"time": u32(DAY_START_S)}, DAY, plain)
        target = f"/api/data?symbol={symbol}&type=MD&exchange=bitfinex&columns=time&start=0&end=9"
        assert site.ask(target).content == site.expected(plain, 0, 9, ("time",))


def test_data_plus_is_a_space_and_encoded_plus_is_plus(site: Site) -> None:
    """As in forms: `BTC%2BETH` is a name, `BTC+ETH` holds a space and is none."""
    plus = Series("coinbase", "BTC+ETH", "MD")
    put(site.root, {"time": u32(DAY_START_S)}, DAY, plus)
    target = "/api/data?symbol=BTC%2BETH&type=MD&columns=time&start=0&end=9"
    assert site.ask(target).status == 200
    assert site.ask(target.replace("%2B", "+")).status == 400
    assert site.ask(target.replace("&columns=", "&col%75mns=")).status == 200


def test_data_day_without_a_column_is_skipped_logged_and_counted(
    site: Site, two_days: Series
) -> None:
    """`skipped` stands after `columns`; the operator reads of it and can count it."""
    put(site.root, {"time": u32(MIDNIGHT_S + 86_400)}, NEXT_DAY + timedelta(days=1), two_days)
    put(site.root, {"price": marks(1)}, NEXT_DAY + timedelta(days=2), two_days)
    counted = site.server.metric("zerocopy_days_skipped_total")
    answer = site.data(two_days)
    assert answer.content == site.expected(two_days)
    assert answer.content.startswith(
        b'{"columns":[{"name":"time","record_size":4,"num_records":5,"data_length":20,"dtype":"<u4"},'
        b'{"name":"price","record_size":4,"num_records":5,"data_length":20,"dtype":"<f4"}],'
        b'"skipped":["02.02.25","03.02.25"]}\n'
    )
    assert site.server.metric("zerocopy_days_skipped_total") == counted + 2
    poll(lambda: levels_of(site, two_days.symbol) == ["warning"], "one warning")
    assert "skipped" not in header_of(site.data(two_days, columns=("time",), end_s=MIDNIGHT_S))


def levels_of(site: Site, symbol: str) -> list[str]:
    """Of the lines in the log about days of a symbol that were skipped."""
    skipped = [event for event in site.server.events() if event["event"] == "days_skipped"]
    return [event["level"] for event in skipped if event["symbol"] == symbol]


@pytest.mark.parametrize("content", [b"", b"\1", b"\1\2\3"])
def test_data_day_with_less_than_one_time_record_has_no_records(
    site: Site, two_days: Series, content: bytes
) -> None:
    """Empty or torn before its first record: the day counts as there, with nothing in it."""
    put(site.root, {"time": content, "price": marks(5)}, NEXT_DAY + timedelta(days=1), two_days)
    answer = site.data(two_days)
    assert answer.content == site.expected(two_days)
    assert "skipped" not in header_of(answer)


def test_data_torn_tails_and_unequal_columns_are_cut_to_the_shortest(
    site: Site, two_days: Series
) -> None:
    """Whole records of all requested columns only; a column not asked for has no say."""
    put(site.root, {"price": marks(2) + b"\xff\xff\xff"}, DAY, two_days)
    for columns in (("time", "price"), ("price",), ("id", "price"), ("time", "id")):
        assert site.data(two_days, columns=columns).content == site.expected(
            two_days, columns=columns
        )
    counts = [
        header_of(site.data(two_days, DAY_START_S, MIDNIGHT_S - 1, columns))["columns"][0][
            "num_records"
        ]
        for columns in (("time", "price"), ("time", "id"))
    ]
    assert counts == [2, 3]


def test_data_nothing_outside_the_root_is_ever_served(transport: Transport, tmp_path: Path) -> None:
    """A neighbour of the root with the very same layout stays out of reach."""
    root = str(tmp_path / "root")
    put(root, {"time": u32(DAY_START_S)})
    put(str(tmp_path), {"time": u32(DAY_START_S)}, series=Series("secret", "X", "MD"))
    with serve(transport, root) as site:
        for text in ("..%2Fsecret", "%2e%2e/secret", "....//secret", "coinbase/../../secret"):
            for name in ("exchange", "symbol", "type", "columns"):
                target = data_target(Series("coinbase", "X", "MD"), columns=("time",))
                answer = site.ask(f"{target.replace(f'{name}=', 'x=')}&{name}={text}")
                assert answer.status == 400
        assert path_of(root, "time").startswith(root)
