"""Documents in the coding a client likes: coded once, kept beside the document, never stale."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from tests.service.bench import Bench
from tests.storage.trees import append, marks, path_of, put, u32
from zerocopy.core.http.messages import Request, Response
from zerocopy.service import documents as documents_module
from zerocopy.service import representations
from zerocopy.service.documents import CODED_BYTES_MIN
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOLS = 20


@pytest.fixture(name="bench")
def fixture_bench(tmp_path: Path) -> Iterator[Bench]:
    """A service over some symbols."""
    for number in range(SYMBOLS):
        put(str(tmp_path), {"time": u32(1)}, series=Series("coinbase", f"S{number}", "MD"))
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture(name="coded")
def fixture_coded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Each coding of each document that a thread codes, as it is coded."""
    done: list[bytes] = []
    compressed = representations.compressed

    def note(coding: bytes, content: bytes) -> bytes:
        done.append(coding)
        return compressed(coding, content)

    monkeypatch.setattr(documents_module, "compressed", note)
    return done


def ask(bench: Bench, target: str, accept: bytes, times: int = 1) -> list[Response]:
    """Ask as often at once."""
    request = Request(b"GET", target.encode(), ((b"accept-encoding", accept),))

    async def scenario() -> list[Response]:
        return await asyncio.gather(*(bench.service.respond(request) for _ in range(times)))

    return asyncio.run(scenario())


def test_document_is_coded_once_for_all(bench: Bench, coded: list[bytes]) -> None:
    """Ten clients at once and those that come later share the bytes, in each coding."""
    found = {id(each) for _ in range(2) for each in ask(bench, "/openapi.json", b"gzip", 10)}
    assert len(found) == 1
    assert coded == [b"gzip"]
    ask(bench, "/openapi.json", b"zstd, gzip")
    assert coded == [b"gzip", b"zstd"]
    assert bench.ask("/openapi.json", "GET", (b"accept-encoding", b"zstd")).status == 200
    assert bench.ask("/openapi.json").fields != ask(bench, "/openapi.json", b"gzip")[0].fields
    assert coded == [b"gzip", b"zstd"]


def test_coded_document_is_given_at_once_where_it_is_known(bench: Bench) -> None:
    """The first waits for a thread; the next does not."""
    request = Request(b"GET", b"/openapi.json", ((b"accept-encoding", b"zstd"),))
    assert bench.service.respond_now(request) is None
    [first] = ask(bench, "/openapi.json", b"zstd")
    assert bench.service.respond_now(request) is first


def test_listing_is_coded_anew_when_it_has_changed(
    bench: Bench, coded: list[bytes], tmp_path: Path
) -> None:
    """While it is the same the coded one is, too."""

    def listed() -> dict[str, int]:
        [answer] = ask(bench, "/api/symbols", b"gzip")
        document = json.loads(gzip.decompress(answer.content))
        return {each["symbol"]: each["last_update"] for each in document["exchanges"]["coinbase"]}

    assert len(listed()) == SYMBOLS
    assert len(listed()) == SYMBOLS
    assert coded == [b"gzip"]
    put(str(tmp_path), {"time": u32(1)}, series=Series("coinbase", "NEW", "MD"))
    append(path_of(str(tmp_path), "time", series=Series("coinbase", "NEW", "MD")), marks(1))
    assert len(listed()) == SYMBOLS + 1
    assert coded == [b"gzip", b"gzip"]


def test_short_documents_and_problems_leave_as_they_are(bench: Bench, coded: list[bytes]) -> None:
    """What could not become shorter than the field that tells of it."""
    for target in (
        "/healthz",
        "/readyz",
        "/api/symbols?exchange=nobody",
        "/api/symbols?exchange=/",
    ):
        [answer] = ask(bench, target, b"gzip")
        assert len(answer.content) < CODED_BYTES_MIN
        assert b"Content-Encoding" not in dict(answer.fields)
    assert coded == []
