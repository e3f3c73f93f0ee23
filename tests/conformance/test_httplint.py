"""httplint judges every kind of response of the running server by the RFCs it knows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter, levels

from tests.server import RunningServer, write_column
from zerocopy.core.layout import U32_MAX, day_of, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOSED_S = 1_590_969_600  # 2020-06-01 00:00:00 UTC
DATA = "/api/data?symbol=X&type=MD&columns=time,price"
CLOSED = f"{DATA}&start={CLOSED_S}&end={CLOSED_S + 99}"
OPEN = f"{DATA}&start={CLOSED_S + 3}&end={U32_MAX}"
ORIGIN = "Origin: https://charts.example"
PREFLIGHT = (
    ORIGIN,
    "Access-Control-Request-Method: GET",
    "Access-Control-Request-Headers: if-none-match, range",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A request, the status it gets, and the bad notes that are accepted, each with its reason."""

    status: int
    target: str
    method: str = "GET"
    fields: tuple[str, ...] = ()
    accepted: tuple[tuple[str, str], ...] = ()

    def raw(self) -> bytes:
        """Return the request as it is sent; the answer ends with its connection."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost", "User-Agent: httplint"]
        return "\r\n".join([*lines, *self.fields, "Connection: close", "", ""]).encode()


CASES = {
    "data of a closed day": Case(200, CLOSED),
    "data of an open day": Case(200, OPEN),
    "data without records": Case(200, f"{DATA}&start=0&end=1"),
    "data to a script": Case(200, CLOSED, fields=(ORIGIN,)),
    "data by HEAD": Case(200, CLOSED, "HEAD"),
    "symbols": Case(200, "/api/symbols"),
    "symbols by HEAD": Case(200, "/api/symbols", "HEAD"),
    "health": Case(200, "/healthz"),
    "readiness": Case(200, "/readyz"),
    "description": Case(200, "/openapi.json"),
    "preflight": Case(204, "/api/data", "OPTIONS", PREFLIGHT),
    "preflight without fields": Case(204, "/api/symbols", "OPTIONS", PREFLIGHT[:2]),
    "OPTIONS that is no preflight": Case(
        204,
        "/api/data",
        "OPTIONS",
        accepted=(
            (
                "CORS_PREFLIGHT_ONLY",
                "the contract answers every OPTIONS as a preflight; Fetch ignores the fields here",
            ),
        ),
    ),
    "bad query": Case(400, "/api/data?symbol=X"),
    "bad query by HEAD": Case(400, "/api/data?symbol=X", "HEAD"),
    "bad Host": Case(400, "/healthz", fields=("Host: twice",)),
    "unknown path": Case(404, "/nowhere"),
    "unknown symbol": Case(404, CLOSED.replace("symbol=X", "symbol=Y")),
    "unknown method": Case(405, "/api/data", "POST", ("Content-Length: 0",)),
    "long target": Case(
        414,
        "/api/data?" + "x" * 9_000,
        accepted=(
            ("STATUS_URI_TOO_LONG", "the note is about the request: the status says so too"),
        ),
    ),
    "unknown expectation": Case(417, "/healthz", fields=("Expect: the-unexpected",)),
    "long field": Case(431, "/healthz", fields=("X-Long: " + "x" * 9_000,)),
    "many fields": Case(431, "/healthz", fields=tuple(f"X-{n}: 1" for n in range(120))),
}
CASES_WITHOUT_ROOT = {
    "unreadable data directory": Case(500, "/api/symbols"),
    "not ready": Case(503, "/readyz"),
}
ALL_CASES = CASES | CASES_WITHOUT_ROOT


def fetch(server: RunningServer, raw: bytes) -> bytes:
    """Return all that the server sends on a connection of its own."""
    received = bytearray()
    with server.connect() as sock:
        sock.sendall(raw)
        while data := sock.recv(65_536):
            received += data
    return bytes(received)


@pytest.fixture(name="answers", scope="module")
def fixture_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the raw response to each case of one server; the root is gone for the last ones."""
    root: Path = tmp_path_factory.mktemp("httplint") / "data"
    for day, start_s in ((day_of(CLOSED_S), CLOSED_S), (day_of(int(time.time())), 0)):
        for column, code in (("time", "I"), ("price", "f")):
            path = f"{root}/coinbase/X/MD/{file_name(column, day)}"
            write_column(path, [start_s or int(time.time())] * 10, code)
            if start_s:
                os.utime(path, (start_s + 86_400, start_s + 86_400))
    with RunningServer(root) as server:
        answers = {name: fetch(server, case.raw()) for name, case in CASES.items()}
        root.rename(root.with_name("away"))
        answers |= {name: fetch(server, case.raw()) for name, case in CASES_WITHOUT_ROOT.items()}
        root.with_name("away").rename(root)
    return answers


def split(message: bytes) -> tuple[list[bytes], list[tuple[bytes, bytes]], bytes]:
    """Return the words of the first line, the fields and the content."""
    head, _, content = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines)]
    return first.split(b" ", 2), fields, content


def judge(request: bytes, response: bytes) -> HttpResponseLinter:
    """Return the linter of a response that knows its request and that it came just now."""
    [method, target, _], fields, _ = split(request)
    asked = HttpRequestLinter(start_time=time.time())
    asked.process_request_topline(method, target, b"1.1")
    asked.process_headers(fields)
    asked.finish_content(complete=True)
    [version, status, phrase], fields, content = split(response)
    judged = HttpResponseLinter(start_time=time.time(), _related=asked)
    judged.is_head_response = method == b"HEAD"
    judged.process_response_topline(version.removeprefix(b"HTTP/"), status, phrase)
    judged.process_headers(fields)
    judged.feed_content(content)
    judged.finish_content(complete=True)
    return judged


def walk(notes: Any) -> Iterator[tuple[Any, str, str]]:
    """Yield level, name and summary of every note and of those below it."""
    for note in notes:
        yield note.level, type(note).__name__, str(note.summary)
        yield from walk(note.subnotes)


@pytest.mark.parametrize("name", ALL_CASES)
def test_response_has_no_bad_note(answers: dict[str, bytes], name: str) -> None:
    """Nothing but what the case accepts by name, and that is still there to be accepted."""
    case = ALL_CASES[name]
    judged = judge(case.raw(), answers[name])
    bad = {note: summary for level, note, summary in walk(judged.notes) if level is levels.BAD}
    assert judged.status_code == case.status
    assert set(bad) == {note for note, _ in case.accepted}, bad


@pytest.mark.parametrize("name", ALL_CASES)
def test_response_has_exactly_the_content_it_declares(answers: dict[str, bytes], name: str) -> None:
    """Content-Length is judged where there is content, and is absent from 204."""
    case = ALL_CASES[name]
    judged = judge(case.raw(), answers[name])
    good = {note for level, note, _ in walk(judged.notes) if level is levels.GOOD}
    has_content = case.method != "HEAD" and case.status != 204
    assert ("CL_CORRECT" in good) == has_content
    assert ("content-length" in judged.headers.parsed) == (case.status != 204)
    assert (judged.content_length > 0) == has_content


@pytest.mark.parametrize(("name", "by_head"), [("data of a closed day", "data by HEAD")])
def test_head_has_the_fields_of_get(answers: dict[str, bytes], name: str, by_head: str) -> None:
    """All of them, in the same order; only the second in Date may differ."""
    fields, head_fields = (
        [field for field in split(answers[case])[1] if field[0] != b"Date"]
        for case in (name, by_head)
    )
    assert fields == head_fields


def test_the_judge_knows_a_bad_response() -> None:
    """A wrong Content-Length and a broken date are bad notes, so their absence means something."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nLast-Modified: yesterday\r\n\r\nabcd"
    judged = judge(CASES["health"].raw(), response)
    bad = {note for level, note, _ in walk(judged.notes) if level is levels.BAD}
    assert {"CL_INCORRECT", "BAD_DATE_SYNTAX"} <= bad


def test_the_kinds_of_data_are_those_that_were_meant(answers: dict[str, bytes]) -> None:
    """One answer may be kept by caches, the other may not: both kinds were judged."""
    kept, asked_again = b"\r\nCache-Control: public, max-age=", b"\r\nCache-Control: no-cache, "
    assert kept in answers["data of a closed day"]
    assert asked_again in answers["data of an open day"]
    assert b"\r\nConnection: close\r\n" in answers["data of a closed day"]
