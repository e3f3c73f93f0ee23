"""Load on the plain HTTP/1.1 path, by users who check every answer.

Owns the mix of requests and what makes an answer right. It knows the server by its contract only:
it finds symbols at /api/symbols, reads the first and the last second of each, and then asks for
recent windows, whole days, several days, and things that must be refused.

Every body is read through one bounded piece at a time and never held: what is checked is its
length, three ways: Content-Length, the bytes that came, and the header line with the sum of its
`data_length`. Whatever differs is reported to locust as a failure of that request.

Environment: LOAD_SEED chooses the sequence of requests (default 0), LOAD_TYPES the types to ask
for (default MD,TRADES), LOAD_WAIT_S the pause between a user's requests (default 0).
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import gevent
import requests
from locust import constant, events, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpUser
from locust.exception import StopUser

if TYPE_CHECKING:
    from locust.contrib.fasthttp import RestResponseContextManager
    from locust.env import Environment

SEED: Final = int(os.environ.get("LOAD_SEED", "0"))
TYPES: Final = os.environ.get("LOAD_TYPES", "MD,TRADES").split(",")
WAIT_S: Final = float(os.environ.get("LOAD_WAIT_S", "0"))

U32_MAX: Final = 4_294_967_295
DAY_S: Final = 86_400
TIME_RECORD_BYTES: Final = 4
PIECE_BYTES: Final = 256 * 1024  # what one read may hold of a body
HEADER_LINE_BYTES_MAX: Final = 64 * 1024
PROBLEM_BYTES_MAX: Final = 4 * 1024
DISCOVERY_TIMEOUT_S: Final = 30
QUIT_DELAY_S: Final = 0.5  # a runner that is still starting ignores quit()
SERIES_MAX: Final = 200  # symbols and types taken part in a run
WINDOWS_S: Final = (1, 10, 60, 300, 3_600)
DAYS_SEVERAL: Final = (2, 3, 5, 7)
COLUMNS: Final = {
    "MD": ("price", "volume", "side", "best_bid", "best_ask"),
    "TRADES": ("price", "size", "side"),
}

logger = logging.getLogger("loadtest")


@dataclass(frozen=True, slots=True)
class Series:
    """One type of one symbol, with the unix seconds of its first and its last record."""

    exchange: str
    symbol: str
    type_: str
    first_s: int
    last_s: int


class WrongAnswerError(Exception):
    """The answer breaks the contract."""


# A connection that fails, a body that is not right, a header line that is not the contract's.
ANSWER_ERRORS: Final = (*FAILURE_EXCEPTIONS, WrongAnswerError, LookupError, TypeError, ValueError)


series_found: list[Series] = []
user_numbers = itertools.count()


@events.test_start.add_listener
def find_series(environment: Environment, **_: Any) -> None:
    """Learn what there is to ask for; without anything the run stops as failed."""
    host = environment.host or MarketDataUser.host or ""
    series_found.clear()
    try:
        with requests.Session() as session:
            answer = session.get(f"{host}/api/symbols", timeout=DISCOVERY_TIMEOUT_S)
            answer.raise_for_status()
            names = [
                (exchange, entry["symbol"], type_)
                for exchange, entries in sorted(answer.json()["exchanges"].items())
                for entry in entries
                for type_ in TYPES
            ]
            random.Random(SEED).shuffle(names)
            for exchange, symbol, type_ in names[:SERIES_MAX]:
                series_found.extend(find_bounds(session, host, exchange, symbol, type_))
    except (requests.RequestException, KeyError, ValueError) as error:
        logger.error("%s: cannot find out what to ask for: %s", host, error)  # noqa: TRY400
    if series_found:
        logger.info("%s: %d series to ask for, seed %d", host, len(series_found), SEED)
        return
    logger.error("%s: no series with records, nothing to ask for", host)
    environment.process_exit_code = 1
    if environment.runner is not None:
        gevent.spawn_later(QUIT_DELAY_S, environment.runner.quit)


def find_bounds(
    session: requests.Session, host: str, exchange: str, symbol: str, type_: str
) -> list[Series]:
    """The series, or nothing if it does not exist or is empty; reads its time column once."""
    target = data_target((exchange, symbol, type_), 0, U32_MAX, ("time",))
    head = tail = b""
    with session.get(host + target, stream=True, timeout=DISCOVERY_TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.not_found:
            return []
        answer.raise_for_status()
        for piece in answer.iter_content(PIECE_BYTES):
            if len(head) < HEADER_LINE_BYTES_MAX:
                head += piece
            tail = (tail + piece)[-TIME_RECORD_BYTES:]
    line, _, data = head.partition(b"\n")
    if not json.loads(line)["columns"][0]["num_records"]:
        return []
    first_s = int.from_bytes(data[:TIME_RECORD_BYTES], "little")
    last_s = int.from_bytes(tail, "little")
    return [Series(exchange, symbol, type_, first_s, last_s)]


def data_target(names: tuple[str, str, str], start: int, end: int, columns: tuple[str, ...]) -> str:
    """The request target of one query; `names` are exchange, symbol and type."""
    parameters = zip(("exchange", "symbol", "type"), names, strict=True)
    query = {**dict(parameters), "start": start, "end": end, "columns": ",".join(columns)}
    return f"/api/data?{urlencode(query)}"


def check_body(response: RestResponseContextManager) -> int:
    """Read the body piece by piece and return its length, which is right in all three ways."""
    promised = int(response.headers.get("content-length") or -1)
    line = b""
    received = 0
    data_bytes = -1
    while piece := response.read(PIECE_BYTES):
        received += len(piece)
        if data_bytes < 0:
            line += piece.partition(b"\n")[0]
            if b"\n" in piece:
                data_bytes = sum(column["data_length"] for column in json.loads(line)["columns"])
            elif len(line) > HEADER_LINE_BYTES_MAX:
                raise WrongAnswerError(f"no header line in the first {len(line)} bytes")
    if received != promised:
        raise WrongAnswerError(f"Content-Length {promised}, but {received} bytes came")
    if received != len(line) + 1 + data_bytes:
        raise WrongAnswerError(
            f"header line of {len(line) + 1} and data of {data_bytes} bytes, "
            f"but {received} bytes came"
        )
    return received


def describe_refusal(response: RestResponseContextManager) -> str:
    """Say why there was no 200: the connection's error, or the server's problem document."""
    if not response.status_code:
        return str(getattr(response, "error", "no answer"))
    problem = (response.content or b"")[:PROBLEM_BYTES_MAX]
    return f"status {response.status_code}: {problem.decode(errors='replace')}"


class MarketDataUser(FastHttpUser):
    """A chart, a backtest and a clumsy client in one, by weight."""

    wait_time = constant(WAIT_S)

    def on_start(self) -> None:
        """Give each user a sequence of its own that the seed repeats."""
        if not series_found:
            raise StopUser
        self.random = random.Random(f"{SEED}-{next(user_numbers)}")

    @task(20)
    def recent_window(self) -> None:
        """Ask for the last seconds or minutes of a series, as a live chart does."""
        series = self.random.choice(series_found)
        window_s = self.random.choice(WINDOWS_S)
        self.ask(series, series.last_s - window_s, series.last_s, "recent window")

    @task(5)
    def one_day(self) -> None:
        """Ask for one UTC day with records around it."""
        series = self.random.choice(series_found)
        day = self.random.randint(series.first_s // DAY_S, series.last_s // DAY_S)
        self.ask(series, day * DAY_S, (day + 1) * DAY_S - 1, "one day")

    @task(1)
    def several_days(self) -> None:
        """Ask for the last days of a series, as a backtest does."""
        series = self.random.choice(series_found)
        days = self.random.choice(DAYS_SEVERAL)
        self.ask(series, series.last_s - days * DAY_S, series.last_s, "several days")

    @task(1)
    def symbols(self) -> None:
        """Ask what there is."""
        with self.client.get("/api/symbols", name="symbols", catch_response=True) as response:
            try:
                if response.status_code != requests.codes.ok or not response.json()["symbols"]:
                    response.failure(f"status {response.status_code}, or no symbols")
            except (KeyError, TypeError, ValueError) as error:
                response.failure(f"not the document of the contract: {error}")

    @task(2)
    def bad_input(self) -> None:
        """Ask for what must be refused, and see that it is, with a problem document."""
        s = self.random.choice(series_found)
        good = {
            "exchange": s.exchange,
            "symbol": s.symbol,
            "type": s.type_,
            "start": s.first_s,
            "end": s.last_s,
            "columns": "time",
        }
        expected, change = self.random.choice(
            (
                (400, {"start": s.last_s, "end": s.last_s - 1}),
                (400, {"start": "yesterday"}),
                (400, {"end": U32_MAX + 1}),
                (400, {"columns": ""}),
                (400, {"columns": "time,time"}),
                (400, {"symbol": "../../etc"}),
                (404, {"symbol": "NO-SUCH-SYMBOL"}),
                (404, {"type": "NO-SUCH-TYPE"}),
                (404, {"columns": "time,no_such_column"}),
            )
        )
        target = f"/api/data?{urlencode({**good, **change})}"
        with self.client.get(target, name=f"refused {expected}", catch_response=True) as response:
            content_type = (response.headers or {}).get("content-type") or ""
            if response.status_code != expected:
                response.failure(f"{change}: status {response.status_code}")
            elif not str(content_type).startswith("application/problem+json"):
                response.failure(f"{change}: Content-Type {content_type!r}")
            else:
                response.success()

    def ask(self, series: Series, start_s: int, end_s: int, name: str) -> None:
        """Ask for some columns, `time` first; the time reported is that of the whole body."""
        choice = COLUMNS.get(series.type_, ())
        others = self.random.sample(choice, self.random.randint(0, len(choice)))
        target = data_target(
            (series.exchange, series.symbol, series.type_),
            max(start_s, 0),
            min(end_s, U32_MAX),
            ("time", *others),
        )
        started_s = time.perf_counter()
        with self.client.get(
            target,
            name=name,
            stream=True,
            catch_response=True,
            headers={"Accept-Encoding": "identity"},
        ) as response:
            if response.status_code != requests.codes.ok:
                response.failure(describe_refusal(response))
                return
            try:
                received = check_body(response)
            except ANSWER_ERRORS as error:
                response.failure(error)
                return
            response.request_meta["response_length"] = received
            response.request_meta["response_time"] = (time.perf_counter() - started_s) * 1_000
            response.success()
