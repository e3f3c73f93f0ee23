"""/api/catalog over the wire: what a symbol has, true as of the request."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.contract.test_statuses import assert_problem
from tests.storage.trees import DAY, DAY_START_S, append, folder, marks, path_of, put, u32
from tests.table import each

if TYPE_CHECKING:
    from tests.contract.site import Site
    from tests.server import Answer
    from zerocopy.storage.tree import Series


def ask(site: Site, series: Series, more: str = "") -> Answer:
    """The catalog of a symbol."""
    return site.ask(f"/api/catalog?symbol={series.symbol}{more}")


def types_of(answer: Answer) -> dict[str, Any]:
    """What a catalog tells of each type."""
    assert answer.status == 200
    document = json.loads(answer.content)
    assert list(document) == ["exchange", "symbol", "types"]
    found: dict[str, Any] = document["types"]
    return found


def test_catalog_is_the_document_of_the_contract(site: Site, series: Series) -> None:
    """Columns of every day before those of some, days, missing days, first and last time."""
    times = u32(DAY_START_S + 1, DAY_START_S + 2)
    put(site.root, {"time": times, "price": marks(2), "id": marks(2, 8)}, DAY, series)
    last = DAY + timedelta(days=3)
    put(site.root, {"time": u32(DAY_START_S + 300_000) + b"x", "price": b""}, last, series)
    put(site.root, {"time": u32(1)}, DAY, series._replace(type="TRADES"))
    answer = ask(site, series)
    assert answer.fields["content-type"] == "application/json"
    assert answer.content == (
        b'{"exchange":"coinbase","symbol":"%s","types":{"MD":{"columns":['
        b'{"name":"time","dtype":"<u4","record_size":4},'
        b'{"name":"price","dtype":"<f4","record_size":4},'
        b'{"name":"id","dtype":"<u8","record_size":8,"days":1}],'
        b'"days":2,"first_day":"2025-01-31","last_day":"2025-02-03",'
        b'"first_time":%d,"last_time":%d,"missing_days":["2025-02-01","2025-02-02"]},'
        b'"TRADES":{"columns":[{"name":"time","dtype":"<u4","record_size":4}],'
        b'"days":1,"first_day":"2025-01-31","last_day":"2025-01-31",'
        b'"first_time":1,"last_time":1,"missing_days":[]}}}'
        % (series.symbol.encode(), DAY_START_S + 1, DAY_START_S + 300_000)
    )
    assert list(types_of(ask(site, series, "&type=TRADES"))) == ["TRADES"]
    same = site.ask(
        f"/api/catalog?symbol={series.symbol}", fields=[("If-None-Match", answer.fields["etag"])]
    )
    assert (same.status, same.content) == (304, b"")


def test_days_without_records_have_no_times(site: Site, series: Series) -> None:
    """Null while no day has a record; days without them are passed over."""
    put(site.root, {"price": marks(1)}, DAY, series)
    put(site.root, {"time": u32(7)[:3]}, DAY + timedelta(days=1), series)
    found = types_of(ask(site, series))["MD"]
    assert (found["first_time"], found["last_time"], found["days"]) == (None, None, 2)
    assert [column.get("days") for column in found["columns"]] == [1, 1]
    put(site.root, {"time": u32(8, 9)}, DAY + timedelta(days=2), series)
    found = types_of(ask(site, series))["MD"]
    assert (found["first_time"], found["last_time"]) == (8, 9)


def test_catalog_is_true_as_of_the_request(site: Site, series: Series) -> None:
    """Appended records, new days, new columns, removed days and types: each in the next answer."""
    put(site.root, {"time": u32(5), "price": marks(1)}, DAY, series)
    for index in range(6, 30):
        append(path_of(site.root, "time", DAY, series), u32(index))
        assert types_of(ask(site, series))["MD"]["last_time"] == index
    for number in range(1, 10):
        put(site.root, {"time": u32(40)}, DAY + timedelta(days=2 * number), series)
        found = types_of(ask(site, series))["MD"]
        assert (found["days"], len(found["missing_days"])) == (number + 1, number)
    os.unlink(path_of(site.root, "time", DAY + timedelta(days=18), series))
    assert types_of(ask(site, series))["MD"]["days"] == 9
    put(site.root, {"time": u32(1)}, DAY, series._replace(type="NEW"))
    assert list(types_of(ask(site, series))) == ["MD", "NEW"]
    shutil.rmtree(folder(site.root, series))
    assert list(types_of(ask(site, series))) == ["NEW"]


def test_what_is_no_type_is_not_listed(site: Site, series: Series) -> None:
    """Links, plain files, hidden and empty directories."""
    put(site.root, {"time": u32(5)}, DAY, series)
    symbol = os.path.dirname(folder(site.root, series))
    os.symlink("MD", os.path.join(symbol, "LINK"))
    os.makedirs(os.path.join(symbol, "EMPTY"))
    shutil.copytree(folder(site.root, series), os.path.join(symbol, ".hidden"))
    with open(os.path.join(symbol, "PLAIN"), "wb"):
        pass
    assert list(types_of(ask(site, series))) == ["MD"]
    assert types_of(ask(site, series, "&type=EMPTY")) == {}
    assert_problem(site, ask(site, series, "&type=LINK"), 404, "LINK")


@each(
    ("query", "told"),
    [
        ("", (400, "symbol")),
        ("symbol=", (400, "symbol")),
        ("symbol=a/b", (400, "symbol")),
        ("symbol=A&type=..", (400, "type")),
        ("symbol=A&exchange=", (400, "exchange")),
        ("symbol=A&symbol=A", (400, "symbol")),
        ("symbol=NONE", (404, "NONE")),
        ("symbol=A&exchange=nowhere", (404, "nowhere")),
        ("symbol=A&type=NONE", (404, "NONE")),
    ],
)
def test_query_that_is_wrong_is_refused_by_name(
    site: Site, query: str, told: tuple[int, str]
) -> None:
    """The statuses of the contract."""
    assert_problem(site, site.ask(f"/api/catalog?{query}"), *told)
