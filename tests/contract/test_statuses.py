"""The table of statuses in contract.md, row by row, over the wire."""

from __future__ import annotations

import json
import os
import shutil
import signal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.contract.site import Site, data_target, serve_all
from tests.faults.client import poll
from tests.storage.trees import DAY_START_S, U32_MAX, marks, put, u32
from tests.table import case, each
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.transports import Transport
    from tests.server import Answer, RunningServer

ENDPOINTS = (
    "/api/data",
    "/api/bars",
    "/api/catalog",
    "/api/live",
    "/api/symbols",
    "/healthz",
    "/readyz",
    "/openapi.json",
)
GOOD = {"symbol": "A", "type": "MD", "start": "0", "end": "9", "columns": "time"}
PHRASES = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""Of RFC 9110 section 15 and RFC 6585; http.HTTPStatus differs from one Python to the next."""
BAD_SECONDS = (
    *("-1", "+1", " 1", "1 ", "1.0", "1e3", "1_0", "0x10", "abc", "1,2", "%00", "1%0A"),
    *("4294967296", "99999999999", "9" * 400, "%D9%A3", "%EF%BC%91", "2025-01-31"),
)
BAD_NAMES = (
    *(".", "..", ".hidden", "a/b", "../A", "/etc", "a%2Fb", "a%5Cb", "a%00", "a%0A", "-x", "~x"),
    *("x" * 65, "%C3%A9", "%FF", "a b", "a+b", "a%20b", "a!", "a*", "a%25", "%", "%zz", "a;b", '"'),
)


def target_of(**changed: str | None) -> str:
    """`GOOD` with some parameters changed, taken out (None), and not encoded any further."""
    parameters = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    return "/api/data?" + "&".join(f"{name}={value}" for name, value in parameters.items())


def assert_problem(site: Site, answer: Answer, status: int, *names: str) -> str:
    """A problem document of exactly four members; `detail` holds `names` and no path."""
    assert answer.status == status, answer
    assert answer.fields["content-type"] == "application/problem+json"
    problem = json.loads(answer.content)
    detail: str = problem["detail"]
    assert list(problem) == ["type", "title", "status", "detail"]
    assert (problem["type"], problem["title"]) == ("about:blank", PHRASES[status])
    assert problem["status"] == status
    assert detail.strip()
    for name in names:
        assert name in detail
    for secret in (site.root, "/tmp", "Traceback", ".py", "Errno", "orjson", "httptools"):
        assert secret not in answer.content.decode()
    return detail


def test_400_parameter_missing_empty_or_repeated(site: Site) -> None:
    """Each required parameter must be there once, with a value; the detail names it."""
    for name, value in GOOD.items():
        for target in (
            target_of(**{name: None}),
            target_of(**{name: ""}),
            f"{target_of()}&{name}={value}",
            f"{target_of()}&{name}=",
        ):
            with case(target):
                assert_problem(site, site.ask(target), 400, name)


@each("target", ["/api/data", "/api/data?", "/api/data?&&", "/api/data?symbol"])
def test_400_no_parameters_at_all(site: Site, target: str) -> None:
    """A path without a query says which parameter is missing first."""
    assert_problem(site, site.ask(target), 400, "symbol")


@pytest.mark.parametrize("suffix", ["exchange=a&exchange=b", "exchange="])
def test_400_exchange_repeated_or_empty(site: Site, suffix: str) -> None:
    """The optional parameter follows the same rules when it is given."""
    assert_problem(site, site.ask(f"{target_of()}&{suffix}"), 400, "exchange")
    assert_problem(site, site.ask("/api/symbols?exchange=a&exchange=b"), 400, "exchange")


@pytest.mark.parametrize("name", ["start", "end"])
def test_400_seconds_that_are_no_u32(site: Site, name: str) -> None:
    """Only ASCII digits, only up to 4294967295: no sign, space, fraction, date or other script."""
    with site.session() as session:
        for text in BAD_SECONDS:
            answer = session.request(target_of(**{name: quote(text, safe="%")}))
            assert_problem(site, answer, 400, name)


def test_400_seconds_of_thousands_of_digits(site: Site) -> None:
    """A number may be long without being large; it is answered as what it is, never 500."""
    for digits in (5_000, 7_000):
        assert site.ask(target_of(start="0" * digits)).status in {200, 400}
        assert_problem(site, site.ask(target_of(start="1" * digits)), 400, "start")


def test_400_start_after_end(site: Site) -> None:
    """A range must not be reversed; equal ends are a range of one second."""
    assert_problem(site, site.ask(target_of(start="10", end="9")), 400, "start", "end")
    assert site.ask(target_of(start="9", end="9")).status == 200


@each("name", ["symbol", "type", "exchange", "columns"])
def test_400_names_that_are_no_names(site: Site, name: str) -> None:
    """Traversal, separators, control bytes, other scripts and 65 characters: refused by name."""
    with site.session() as session:
        for text in BAD_NAMES:
            answer = session.request(target_of(**{name: text.replace(" ", "+")}))
            assert_problem(site, answer, 400, name if text != "%FF" else "")


@each("text", ["/", "..", "a%00", "%FF", "-"])
def test_400_symbols_of_an_exchange_that_is_no_name(site: Site, text: str) -> None:
    """The same rule for /api/symbols."""
    assert_problem(site, site.ask(f"/api/symbols?exchange={text}"), 400)


@each(
    "text", [",", "time,", ",time", "time,,price", "time,time", "price,time,price", "time,%20price"]
)
def test_400_columns_that_are_no_list(site: Site, text: str) -> None:
    """Single commas between distinct names."""
    assert_problem(site, site.ask(target_of(columns=text)), 400, "columns")


def test_400_columns_more_than_32(site: Site, series: Series) -> None:
    """32 are answered, 33 are not."""
    names = ["time", *(f"c{index}" for index in range(32))]
    put(site.root, dict.fromkeys(names, u32(DAY_START_S)), series=series)
    answer = site.data(series, columns=names[:32])
    assert answer.content == site.expected(series, columns=names[:32])
    assert_problem(site, site.data(series, columns=names), 400, "columns", "32")


def test_400_parameters_without_end(site: Site) -> None:
    """Unknown parameters are ignored, but not a thousand of them."""
    assert_problem(site, site.ask(target_of() + "&x=1" * 1_000), 400)


@each(
    ("changed", "named"),
    [
        ({"exchange": "nowhere"}, "nowhere"),
        ({"symbol": "NOTHING"}, "NOTHING"),
        ({"type": "NONE"}, "NONE"),
        ({"columns": "time,volume"}, "volume"),
        ({"symbol": "a"}, "a"),
    ],
)
def test_404_name_that_does_not_exist(site: Site, changed: dict[str, str], named: str) -> None:
    """Exchange, symbol, type and column each; names are case-sensitive."""
    assert_problem(site, site.ask(target_of(**changed)), 404, named)


UNKNOWN = (
    *("/ui", "/ui/", "/ui/x.js", "/api", "/api/", "/api/data/", "/api/Data"),
    *("/metrics", "/..", "/api/data%3F", "/x"),
)


def test_404_unknown_path(site: Site) -> None:
    """Whatever the method, and with HEAD without content."""
    for path, method in product(UNKNOWN, ("GET", "HEAD", "POST", "OPTIONS")):
        with case(method, path):
            answer = site.ask(path, method=method)
            assert answer.status == 404
            if method == "HEAD":
                assert answer.content == b""
            else:
                assert_problem(site, answer, 404)


@pytest.mark.parametrize("level", ["exchange", "symbol", "type", "column"])
def test_404_symbolic_link_at_every_level(
    site: Site, series: Series, tmp_path: Path, level: str
) -> None:
    """What a link stands for does not exist, inside the root or outside."""
    outside = str(tmp_path)
    linked = Series(f"L{series.symbol}", "X", "MD")
    put(outside, {"time": u32(DAY_START_S), "price": marks(1)}, series=linked)
    depth = ["exchange", "symbol", "type", "column"].index(level)
    os.makedirs(os.path.join(site.root, *linked[:depth]), exist_ok=True)
    below = os.path.join(*linked[: depth + 1])
    if level == "column":
        below = os.path.join(*linked, "time.31.01.25.bin")
    os.symlink(os.path.join(outside, below), os.path.join(site.root, below))
    assert_problem(site, site.data(linked, columns=["time"]), 404)


def test_200_known_symbol_without_records_in_the_range(site: Site, series: Series) -> None:
    """Before, after and between the records there are none, and that is no error."""
    put(site.root, {"time": u32(DAY_START_S, DAY_START_S + 9), "price": marks(2)}, series=series)
    for start_s, end_s in ((0, 0), (DAY_START_S + 1, DAY_START_S + 8), (U32_MAX, U32_MAX)):
        answer = site.data(series, start_s, end_s)
        assert answer.status == 200
        assert answer.content == (
            b'{"columns":[{"name":"time","record_size":4,"num_records":0,"data_length":0,"dtype":"<u4"},'
            b'{"name":"price","record_size":4,"num_records":0,"data_length":0,"dtype":"<f4"}]}\n'
        )


def test_405_other_method_on_a_known_path(site: Site) -> None:
    """Any other method is answered with those that are allowed."""
    methods = ("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")
    for path, method in product(ENDPOINTS, methods):
        with case(method, path):
            answer = site.ask(path, method=method)
            assert_problem(site, answer, 405)
            assert answer.fields["allow"].split(", ") == ["GET", "HEAD", "OPTIONS"]


def test_405_method_that_nobody_registered(site: Site) -> None:
    """A method is any token (RFC 9110, 9.1); one that nobody knows is an other method too."""
    for method in ("BREW", "get", "X-Y"):
        answer = site.ask("/healthz", method=method)
        assert_problem(site, answer, 405)
        assert answer.fields["allow"].split(", ") == ["GET", "HEAD", "OPTIONS"]


def test_414_target_too_long(site: Site) -> None:
    """8,192 bytes are a target, one more is not."""
    filler = "/healthz?" + "x" * (8_192 - len("/healthz?"))
    assert site.ask(filler).status == 200
    assert_problem(site, site.ask(filler + "x"), 414)


def test_431_fields_too_long_or_too_many(site: Site) -> None:
    """One field, all fields together, or their number."""
    assert site.ask("/healthz", fields=[("X", "x" * 8_000)]).status == 200
    assert_problem(site, site.ask("/healthz", fields=[("X", "x" * 8_193)]), 431)
    many = [(f"X{index}", "x" * 8_000) for index in range(5)]
    assert_problem(site, site.ask("/healthz", fields=many), 431)
    assert_problem(site, site.ask("/healthz", fields=[("X", "x")] * 101), 431)


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server whose root may be taken away, and is at the end."""
    root = str(tmp_path_factory.mktemp("gone") / "root")
    put(root, {"time": u32(DAY_START_S), "price": marks(1)}, series=Series("coinbase", "A", "MD"))
    with serve_all(root) as server:
        yield root, server
        shutil.rmtree(root)


def test_500_data_directory_removed_and_back(
    transport: Transport, gone: tuple[str, RunningServer]
) -> None:
    """Without its root the server fails every data request, is not ready, and stays alive."""
    site, root, series = Site(*gone, transport), gone[0], Series("coinbase", "A", "MD")
    whole = site.data(series)
    assert (whole.status, site.ask("/readyz").status) == (200, 200)
    for becomes_file in (False, True):
        os.rename(root, root + ".moved")
        if becomes_file:
            Path(root).write_bytes(b"")
        assert_problem(site, site.data(series), 500)
        assert_problem(site, site.ask("/api/symbols"), 500)
        assert_problem(site, site.ask("/api/symbols?exchange=coinbase"), 500)
        assert_problem(site, site.ask("/readyz"), 503)
        assert site.ask("/healthz").status == 200
        if becomes_file:
            os.unlink(root)
        os.rename(root + ".moved", root)
        assert site.data(series).content == whole.content
        assert site.ask("/readyz").status == 200


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server of two connections."""
    root = str(tmp_path_factory.mktemp("narrow"))
    with serve_all(root, ZEROCOPY_LIMITS_CONNECTIONS_MAX="2") as server:
        yield root, server


def test_503_too_many_connections(transport: Transport, narrow: tuple[str, RunningServer]) -> None:
    """Beyond the bound a connection is told when to come again, and is let in when one is free."""
    site = Site(*narrow, transport)
    poll(lambda: site.server.metric("zerocopy_connections") == 0, "the other transports' clients")
    with site.session() as first, site.session() as second:
        assert first.request("/healthz").status == 200
        assert second.request("/healthz").status == 200
        answer = site.ask("/healthz")
        assert_problem(site, answer, 503)
        assert int(answer.fields["retry-after"]) >= 1
        assert first.request("/healthz").status == 200
    assert answer_when_free(site).status == 200


def answer_when_free(site: Site) -> Answer:
    """Ask until the server has noticed that a connection closed."""
    while (answer := site.ask("/healthz")).status == 503:
        pass
    return answer


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server of one request at a time."""
    root = str(tmp_path_factory.mktemp("single"))
    with serve_all(root, ZEROCOPY_LIMITS_REQUESTS_IN_FLIGHT_MAX="1") as server:
        yield root, server


def test_503_too_many_requests_in_flight(
    transport: Transport, single: tuple[str, RunningServer]
) -> None:
    """Of many requests that arrive at the same moment, all are answered: 200, or 503 to come again.

    The worker stands still while they arrive, so it finds them all at once.
    """
    site = Site(*single, transport)
    sessions = [transport.connect(site.server) for _ in range(8)]
    for session in sessions:
        assert session.request("/api/symbols").status == 200
    (worker,) = site.server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    for session in sessions:
        session.send("/api/symbols")
    os.kill(worker, signal.SIGCONT)
    answers = [session.receive() for session in sessions]
    for session in sessions:
        session.close()
    assert {answer.status for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status == 503:
            assert_problem(site, answer, 503)
            assert int(answer.fields["retry-after"]) >= 1


def test_statuses_of_one_connection_do_not_depend_on_each_other(site: Site) -> None:
    """After an error that leaves the framing whole, the connection goes on."""
    targets = {
        target_of(): 200,
        target_of(start="x"): 400,
        target_of(symbol="NOTHING"): 404,
        "/nowhere": 404,
        data_target(Series("coinbase", "A", "MD")): 200,
    }
    with site.session() as session:
        for _ in range(3):
            for target, status in targets.items():
                assert session.request(target).status == status
