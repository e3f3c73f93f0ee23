"""httplint judges every kind of response of the running server by the RFCs it knows."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter, levels

from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer, write_column
from zerocopy.core.layout import U32_MAX, day_of, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOSED_S = 1_590_969_600  # 2020-06-01 00:00:00 UTC
DATA = "/api/data?symbol=X&type=MD&columns=time,price"
LARGE = "/api/data?symbol=LARGE&type=MD&columns=time,price&start=0&end=4294967295"
LARGE_RECORDS = 20_000
WITHOUT_CONTENT = (204, 304)
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
    version: str = "1.1"

    def raw(self) -> bytes:
        """Return the request as it is sent; the answer ends with its connection."""
        lines = [
            f"{self.method} {self.target} HTTP/{self.version}",
            "Host: localhost",
            "User-Agent: httplint",
        ]
        return "\r\n".join([*lines, *self.fields, "Connection: close", "", ""]).encode()


CASES = {
    "data of a closed day": Case(200, CLOSED),
    "data of an open day": Case(200, OPEN),
    "data without records": Case(200, f"{DATA}&start=0&end=1"),
    "data to a script": Case(200, CLOSED, fields=(ORIGIN,)),
    "data by HEAD": Case(200, CLOSED, "HEAD"),
    "data of an open day by HEAD": Case(200, OPEN, "HEAD"),
    "large data": Case(200, LARGE),
    "large data by HEAD": Case(200, LARGE, "HEAD"),
    **{
        f"{what} in {coding}{by}": Case(200, target, method, (f"Accept-Encoding: {coding}",))
        for coding in ("gzip", "zstd")
        for by, method in (("", "GET"), (" by HEAD", "HEAD"))
        for what, target in (
            ("text of a closed day", CLOSED + "&format=json"),
            ("large text", LARGE + "&format=json"),
            ("description", "/openapi.json"),
            ("page", "/"),
        )
    },
    "columns in zstd": Case(200, LARGE + "&compress=zstd"),
    "columns to one who takes no zstd": Case(
        200, CLOSED + "&compress=zstd", fields=("Accept-Encoding: gzip",)
    ),
    "symbols": Case(200, "/api/symbols"),
    "symbols by HEAD": Case(200, "/api/symbols", "HEAD"),
    "symbols of nobody": Case(200, "/api/symbols?exchange=nobody"),
    "health": Case(200, "/healthz"),
    "health by HEAD": Case(200, "/healthz", "HEAD"),
    "readiness": Case(200, "/readyz"),
    "readiness by HEAD": Case(200, "/readyz", "HEAD"),
    "description": Case(200, "/openapi.json"),
    "description by HEAD": Case(200, "/openapi.json", "HEAD"),
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
    "unknown column": Case(404, CLOSED.replace("price", "volume")),
    "unknown path by HEAD": Case(404, "/nowhere", "HEAD"),
    "known method that is not allowed": Case(405, "/healthz", "DELETE"),
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
CASES_WITHOUT_ROOM = {"too many connections": Case(503, CLOSED)}
OF_PARTS = (
    "PARTIAL_WITHOUT_RANGE",
    "RFC 9110 section 15.3.7.2 forbids the field where there are several parts: each has its own",
)
CASES_OF_RANGES = {
    "one range": Case(206, CLOSED, fields=("Range: bytes=0-9",)),
    "one range of large data": Case(206, LARGE, fields=("Range: bytes=9-100008",)),
    "several ranges": Case(206, CLOSED, fields=("Range: bytes=0-9, 20-29",), accepted=(OF_PARTS,)),
    "several ranges of large data": Case(
        206, LARGE, fields=("Range: bytes=-9, 9-100008",), accepted=(OF_PARTS,)
    ),
    "the rest of the same by HEAD": Case(200, CLOSED, "HEAD", ("Range: bytes=1-",)),
    "nothing new": Case(304, CLOSED, fields=("If-None-Match: *",)),
    "nothing new by HEAD": Case(304, CLOSED, "HEAD", ("If-None-Match: *",)),
    "something else": Case(412, CLOSED, fields=('If-Match: "else"',)),
    "no such range": Case(416, CLOSED, fields=("Range: bytes=999999999-",)),
}
"""Judged on every transport."""

CASES_OF_STRICTNESS = {
    "unknown coding": Case(501, "/healthz", fields=("Transfer-Encoding: gzip, chunked",)),
    "unknown version": Case(
        505,
        "/healthz",
        version="2.0",
        accepted=(
            (
                "STATUS_VERSION_NOT_SUPPORTED",
                "the note is about the request: the status says so too",
            ),
        ),
    ),
}
"""Judged on both transports of HTTP/1.1."""

KEY = "zc_httplint"
WITH_KEY = f"Authorization: Bearer {KEY}"
CASES_OF_KEYS = {
    "data with a key": Case(200, CLOSED, fields=(WITH_KEY,)),
    "data with a key by HEAD": Case(200, CLOSED, "HEAD", fields=(WITH_KEY,)),
    "data of an open day with a key": Case(200, OPEN, fields=(WITH_KEY,)),
    "nothing new with a key": Case(304, CLOSED, fields=(WITH_KEY, "If-None-Match: *")),
    "one range with a key": Case(206, CLOSED, fields=(WITH_KEY, "Range: bytes=0-9")),
    "symbols with a key": Case(200, "/api/symbols", fields=(WITH_KEY,)),
    "catalog with a key": Case(200, "/api/catalog?symbol=X", fields=(WITH_KEY,)),
    "description with a key": Case(200, "/openapi.json", fields=(WITH_KEY,)),
    "hidden": Case(404, CLOSED.replace("=X", "=LARGE"), fields=(WITH_KEY,)),
    "no key": Case(401, CLOSED),
    "no key by HEAD": Case(401, CLOSED, "HEAD"),
    "unknown key": Case(401, CLOSED, fields=(f"{WITH_KEY}x",)),
}
"""Judged of a server with keys, whose key sees the symbol X alone."""

LATER = CASES_OF_RANGES | CASES_OF_STRICTNESS
ALL_CASES = CASES | CASES_WITHOUT_ROOT | CASES_WITHOUT_ROOM | LATER | CASES_OF_KEYS
ALL_CASES_OF_TLS = {f"{name} over TLS": case for name, case in LATER.items()} | {
    f"{name} over HTTP/2": case for name, case in CASES_OF_RANGES.items()
}


class Fetched(NamedTuple):
    """A response, and when it was asked for: Date is judged by that."""

    raw: bytes
    asked_s: float


def fetch(server: RunningServer, raw: bytes) -> Fetched:
    """Return all that the server sends on a connection of its own."""
    asked_s = time.time()
    received = bytearray()
    with server.connect() as sock:
        sock.sendall(raw)
        while data := sock.recv(65_536):
            received += data
    return Fetched(bytes(received), asked_s)


def fetch_tls(server: RunningServer, raw: bytes) -> Fetched:
    """The same over TLS."""
    asked_s = time.time()
    received = bytearray()
    with server.connect_tls(["http/1.1"]) as sock:
        sock.sendall(raw)
        while data := sock.recv(65_536):
            received += data
    return Fetched(bytes(received), asked_s)


def fetch_h2(server: RunningServer, case: Case) -> Fetched:
    """Return the response of HTTP/2, written as one of HTTP/1.1 without a phrase."""
    asked_s = time.time()
    fields = [field.lower().split(": ", 1) for field in case.fields]
    with H2Client(server) as client:
        stream_id = client.request(case.target, case.method, [(n, v) for n, v in fields])
        client.answer(stream_id)
        stream = client.streams[stream_id]
    lines = [f"HTTP/2 {stream.status} ", *(f"{name}:{value}" for name, value in stream.fields)]
    return Fetched("\r\n".join([*lines, "", ""]).encode() + stream.content, asked_s)


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with a closed and an open day, and a large one."""
    root: Path = tmp_path_factory.mktemp("httplint") / "data"
    for day, start_s in ((day_of(CLOSED_S), CLOSED_S), (day_of(int(time.time())), 0)):
        for column, code in (("time", "I"), ("price", "f")):
            path = f"{root}/coinbase/X/MD/{file_name(column, day)}"
            write_column(path, [start_s or int(time.time())] * 10, code)
            if start_s:
                os.utime(path, (start_s + 86_400, start_s + 86_400))
    for column, code in (("time", "I"), ("price", "f")):
        path = f"{root}/coinbase/LARGE/MD/{file_name(column, day_of(CLOSED_S))}"
        write_column(path, [CLOSED_S] * LARGE_RECORDS, code)
    return root


@pytest.fixture(name="keys_path", scope="module")
def fixture_keys_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a key file of one key."""
    path: Path = tmp_path_factory.mktemp("httplint-keys") / "keys.json"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    entry = {"name": "httplint", "sha256": digest, "created": "2026-11-30", "symbols": ["X"]}
    path.write_text(json.dumps({"keys": [entry]}), encoding="utf-8")
    path.chmod(0o600)
    return str(path)


@pytest.fixture(name="answers", scope="module")
def fixture_answers(root: Path, keys_path: str) -> dict[str, Fetched]:
    """Return the raw response to each case of one server; the root is gone for the last ones."""
    with ForkedServer(root) as server:
        answers = {name: fetch(server, case.raw()) for name, case in (CASES | LATER).items()}
        root.rename(root.with_name("away"))
        answers |= {name: fetch(server, case.raw()) for name, case in CASES_WITHOUT_ROOT.items()}
        root.with_name("away").rename(root)
    with (
        ForkedServer(root, ZEROCOPY_LIMITS_CONNECTIONS_MAX="1") as server,
        server.connect() as one,
    ):
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert one.recv(65_536)
        answers |= {name: fetch(server, case.raw()) for name, case in CASES_WITHOUT_ROOM.items()}
    with ForkedServer(root, ZEROCOPY_AUTH_KEYS_PATH=keys_path) as server:
        answers |= {name: fetch(server, case.raw()) for name, case in CASES_OF_KEYS.items()}
    return answers


@pytest.fixture(name="tls_answers", scope="module")
def fixture_tls_answers(root: Path) -> dict[str, Fetched]:
    """Return the responses over TLS: of HTTP/1.1, and of HTTP/2 what it has."""
    with ForkedServer(root, USE_TLS="true") as server:
        told = {f"{name} over TLS": fetch_tls(server, case.raw()) for name, case in LATER.items()}
        for name, case in CASES_OF_RANGES.items():
            told[f"{name} over HTTP/2"] = fetch_h2(server, case)
    return told


@pytest.fixture(name="case", params=[*ALL_CASES, *ALL_CASES_OF_TLS])
def fixture_case(request: pytest.FixtureRequest) -> tuple[Case, Fetched]:
    """Return each case and its raw response."""
    name: str = request.param
    if name in ALL_CASES:
        return ALL_CASES[name], request.getfixturevalue("answers")[name]
    return ALL_CASES_OF_TLS[name], request.getfixturevalue("tls_answers")[name]


def split(message: bytes) -> tuple[list[bytes], list[tuple[bytes, bytes]], bytes]:
    """Return the words of the first line, the fields and the content."""
    head, _, content = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines)]
    return first.split(b" ", 2), fields, content


def judge(request: bytes, fetched: Fetched) -> HttpResponseLinter:
    """Return the linter of a response that knows its request and when it was made."""
    [method, target, _], fields, _ = split(request)
    asked = HttpRequestLinter(start_time=fetched.asked_s)
    asked.process_request_topline(method, target, b"1.1")
    asked.process_headers(fields)
    asked.finish_content(complete=True)
    [version, status, phrase], fields, content = split(fetched.raw)
    judged = HttpResponseLinter(start_time=fetched.asked_s, _related=asked)
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


def test_response_has_no_bad_note(case: tuple[Case, Fetched]) -> None:
    """Nothing but what the case accepts by name, and that is still there to be accepted."""
    asked, answer = case
    judged = judge(asked.raw(), answer)
    bad = {note: summary for level, note, summary in walk(judged.notes) if level is levels.BAD}
    assert judged.status_code == asked.status
    assert set(bad) == {note for note, _ in asked.accepted}, bad


def test_response_has_exactly_the_content_it_declares(case: tuple[Case, Fetched]) -> None:
    """Content-Length is judged where there is content, and is absent from 204 and 304."""
    asked, answer = case
    judged = judge(asked.raw(), answer)
    good = {note for level, note, _ in walk(judged.notes) if level is levels.GOOD}
    may_have_content = asked.status not in WITHOUT_CONTENT
    has_content = asked.method != "HEAD" and may_have_content
    assert ("CL_CORRECT" in good) == has_content
    assert ("content-length" in judged.headers.parsed) == may_have_content
    assert (judged.content_length > 0) == has_content


@pytest.mark.parametrize(
    ("name", "by_head"),
    [
        ("data of a closed day", "data by HEAD"),
        ("data of an open day", "data of an open day by HEAD"),
        ("large data", "large data by HEAD"),
        ("symbols", "symbols by HEAD"),
        ("health", "health by HEAD"),
        ("readiness", "readiness by HEAD"),
        ("description", "description by HEAD"),
        ("unknown path", "unknown path by HEAD"),
    ],
)
def test_head_has_the_fields_of_get(answers: dict[str, Fetched], name: str, by_head: str) -> None:
    """All of them, in the same order; only the second in Date may differ."""
    fields, head_fields = (
        [field for field in split(answers[case].raw)[1] if field[0] != b"Date"]
        for case in (name, by_head)
    )
    assert fields == head_fields


def test_the_judge_knows_a_bad_response() -> None:
    """A wrong Content-Length and a broken date are bad notes, so their absence means something."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nLast-Modified: yesterday\r\n\r\nabcd"
    judged = judge(CASES["health"].raw(), Fetched(response, time.time()))
    bad = {note for level, note, _ in walk(judged.notes) if level is levels.BAD}
    assert {"CL_INCORRECT", "BAD_DATE_SYNTAX"} <= bad


def test_the_kinds_of_data_are_those_that_were_meant(answers: dict[str, Fetched]) -> None:
    """One answer may be kept by caches, the other may not: both kinds were judged."""
    kept, asked_again = b"\r\nCache-Control: public, max-age=", b"\r\nCache-Control: no-cache, "
    assert kept in answers["data of a closed day"].raw
    assert asked_again in answers["data of an open day"].raw
    assert b"\r\nConnection: close\r\n" in answers["data of a closed day"].raw
