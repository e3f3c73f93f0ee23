"""Who may ask, and what they see: the guard against a service over what may be seen alone."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.service.bench import Bench
from tests.service.guard.bench import GUARDED, SCOPE, SEEN, GuardedBench, make_root
from tests.storage.trees import put, u32
from tests.table import case, each
from zerocopy.core.access import Scope
from zerocopy.service.guard import scoped as scoped_module
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerocopy.core.http.messages import Response

HIDDEN = [
    Series("coinbase", "BTC-USD", "BOOK"),
    Series("coinbase", "ETH-USD", "MD"),
    Series("secret", "BTC-USD", "MD"),
    Series("kraken", "BTC-HID", "BOOK"),
]
NAMES = {
    "exchange": ("coinbase", "kraken", "secret", "k-none", "none"),
    "symbol": ("BTC-USD", "BTC-EUR", "BTC-HID", "BTC-NONE", "ETH-USD", "NONE"),
    "type": ("MD", "TRADES", "BOOK", "TXADES", "NONE"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBench]:
    """A guard over everything."""
    folder = tmp_path_factory.mktemp("guarded")
    make_root(folder / "root", [*SEEN, *HIDDEN])
    bench = GuardedBench(folder / "root", folder / "keys.json")
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def key(bench: GuardedBench) -> str:
    """A key with `SCOPE`."""
    return bench.add("desk", SCOPE)


@pytest.fixture(scope="module")
def whole(bench: GuardedBench) -> str:
    """A key that sees everything."""
    return bench.add("ops")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A service without a guard, over a root in which nothing else has ever been.

    A symbol whose name may be seen, and whose types may not, is an empty directory.
    """
    root = tmp_path_factory.mktemp("visible")
    make_root(root, SEEN)
    (root / "kraken" / "BTC-HID").mkdir()
    bench = Bench(root)
    yield bench
    bench.close()


def fields_of(response: Response) -> dict[bytes, bytes]:
    """Its fields; none is there twice."""
    fields = dict(response.fields)
    assert len(fields) == len(response.fields)
    return fields


def shown(response: Response, *, is_guarded: bool, with_tag: bool) -> tuple[object, ...]:
    """Everything of a response but who may keep it, and what the times of files tell."""
    fields = fields_of(response)
    kept = fields.pop(b"Cache-Control")
    varies = fields.pop(b"Vary", b"").split(b", ")
    if is_guarded and not kept.startswith(b"no-store"):
        assert varies.pop() == b"Authorization"
        varies = varies or [b""]
        assert kept.startswith(b"private, ")
    kept = kept.removeprefix(b"private, ").removeprefix(b"public, ")
    fields.pop(b"Last-Modified", None)
    if not with_tag:
        fields.pop(b"ETag", None)
    return response.status, kept, varies, fields, response.content


def targets() -> Iterator[str]:
    """Every endpoint that names something, with names that are there, hidden, and neither."""
    for exchange, symbol, type_ in itertools.product(*NAMES.values()):
        named = f"exchange={exchange}&symbol={symbol}&type={type_}"
        yield f"/api/data?{named}&start=0&end=99&columns=time,price"
        yield f"/api/bars?{named}&start=0&end=99&columns=price:ohlc&interval=10"
        yield f"/api/catalog?{named}"
        if type_ == "NONE" or symbol in ("ETH-USD", "BTC-HID", "BTC-NONE"):
            yield f"/api/live?{named}&columns=time,price"
            yield f"/api/data?{named}&start=0&end=99&columns=time,none&format=csv"
    for exchange, symbol in itertools.product(NAMES["exchange"], NAMES["symbol"]):
        yield f"/api/catalog?exchange={exchange}&symbol={symbol}"
    yield "/api/symbols"
    yield from (f"/api/symbols?exchange={exchange}" for exchange in NAMES["exchange"])
    yield from ("/api/symbols?exchange=a/b", "/api/catalog", "/api/data?symbol=ETH-USD")
    yield from ("/api/bars?symbol=ETH-USD&type=MD&start=0&end=9&interval=0", "/api/live")


def test_what_is_hidden_is_as_if_it_were_not_there(
    bench: GuardedBench, key: str, oracle: Bench
) -> None:
    """Status, fields and content, byte for byte, as of a root without it; with HEAD as well."""
    for target in targets():
        with case("target", target):
            answer, truth = bench.ask(target, key), oracle.ask(target)
            # The tag of data covers times of files, and those of the copy are others.
            with_tag = target.startswith("/api/symbols")
            ours = shown(answer, is_guarded=True, with_tag=with_tag)
            assert ours == shown(truth, is_guarded=False, with_tag=with_tag)


def test_a_symbol_with_hidden_types_alone_is_listed_nowhere(bench: GuardedBench, key: str) -> None:
    """Nor does the last update of another tell of a hidden type."""
    text = bench.ask("/api/symbols", key).content
    assert b"BTC-HID" not in text
    assert b"secret" not in text
    assert b"ETH-USD" not in text


def test_only_types_that_may_be_seen_tell_the_last_update(tmp_path: Path) -> None:
    """A symbol's newest file may be one of a type that is hidden."""
    root = tmp_path / "root"
    make_root(root, [SEEN[0], HIDDEN[0]])
    bench = GuardedBench(root, tmp_path / "keys.json")
    key, whole = bench.add("desk", SCOPE), bench.add("ops")
    times = []
    for number, series in enumerate((SEEN[0], HIDDEN[0])):
        for folder, _, names in os.walk(root.joinpath(*series)):
            for name in names:
                os.utime(os.path.join(folder, name), (1_000 + number, 1_000 + number))
    for word in (key, whole):
        listed = json.loads(bench.ask("/api/symbols", word).content)["exchanges"]["coinbase"]
        times.append(listed[0]["last_update"])
    assert times == [1_000, 1_001]
    bench.close()


OPEN = ("/", "/ui/none.js", "/healthz", "/readyz")


@each("method", ["GET", "HEAD", "POST", "DELETE"])
def test_without_a_key_nothing_is_told_but_that_one_is_needed(
    bench: GuardedBench, whole: str, method: str
) -> None:
    """The same 401 for every path, there or not, right or wrong; a wrong key is told to be one."""
    bench.ask(GUARDED[0], whole)
    for target in GUARDED:
        with case("target", target):
            missing = bench.ask(target, None, method)
            wrong = bench.ask(target, "zc_wrong", method)
            assert missing.status == wrong.status == 401
            assert missing.content == bench.ask("/other", None).content
            assert fields_of(missing)[b"WWW-Authenticate"] == b'Bearer realm="zerocopy"'
            assert b'error="invalid_token"' in fields_of(wrong)[b"WWW-Authenticate"]
            assert fields_of(missing)[b"Cache-Control"] == b"no-store"
            assert b"zc_wrong" not in wrong.content


def test_what_needs_no_key_needs_none_and_takes_a_wrong_one(bench: GuardedBench) -> None:
    """Whether the server lives, the page, and any preflight."""
    for target in OPEN:
        for word in (None, "zc_wrong"):
            assert bench.ask(target, word).status in (200, 404)
            assert bench.ask(target, word, "OPTIONS").status in (204, 404)
    for target in GUARDED[:7]:
        assert bench.ask(target, None, "OPTIONS").status == 204


def test_no_shared_cache_keeps_an_answer_to_a_key(
    bench: GuardedBench, key: str, whole: str
) -> None:
    """`private` and `Vary` on 200, 206, 304 of all that is guarded, the second time as well."""
    asked = [
        GUARDED[0],
        "/api/bars?symbol=BTC-USD&type=MD&start=0&end=99&columns=price:ohlc",
        "/api/symbols",
        "/api/catalog?symbol=BTC-USD",
        "/openapi.json",
    ]
    for word, target, _ in itertools.product((key, whole), asked, range(2)):
        with case("target", target):
            found = bench.ask(target, word)
            etag = fields_of(found)[b"ETag"]
            answers = [found, bench.ask(target, word, "GET", (b"if-none-match", etag))]
            if b"Accept-Ranges" in fields_of(found):
                answers.append(bench.ask(target, word, "GET", (b"range", b"bytes=0-3")))
            assert [answer.status for answer in answers] == [200, 304, 206][: len(answers)]
            for answer in answers:
                is_document = "start=" not in target
                coded = b"Accept-Encoding, " * is_document
                assert fields_of(answer)[b"Vary"] == coded + b"Authorization"
                assert fields_of(answer)[b"Cache-Control"].startswith(b"private, ")


def test_preconditions_compare_what_the_key_sees(bench: GuardedBench, key: str, whole: str) -> None:
    """The tag of a document that is cut is that of the cut one; the whole one's is another."""
    for target in ("/api/symbols", "/api/catalog?symbol=BTC-USD"):
        cut, all_ = (fields_of(bench.ask(target, word))[b"ETag"] for word in (key, whole))
        assert cut != all_
        assert bench.ask(target, key, "GET", (b"if-none-match", cut)).status == 304
        assert bench.ask(target, key, "GET", (b"if-none-match", all_)).status == 200
        assert bench.ask(target, key, "GET", (b"if-match", all_)).status == 412
        assert bench.ask(target, key, "HEAD", (b"if-match", cut)).status == 200


def test_documents_are_coded_as_the_key_sees_them(
    bench: GuardedBench, key: str, whole: str
) -> None:
    """What is coded is what was cut; tags, and what is compared with them, are of that form."""
    gzip_field = (b"accept-encoding", b"gzip")
    for target in ("/api/symbols", "/api/catalog?symbol=BTC-USD", "/openapi.json"):
        tags = set()
        for word in (key, whole):
            plain = bench.ask(target, word)
            coded = bench.ask(target, word, "GET", gzip_field)
            fields = fields_of(coded)
            assert fields[b"Vary"] == b"Accept-Encoding, Authorization"
            content = coded.content
            if b"Content-Encoding" in fields:  # long enough
                content = gzip.decompress(content)
                assert fields[b"ETag"] != fields_of(plain)[b"ETag"]
            assert content == plain.content
            tag = (b"if-none-match", fields[b"ETag"])
            assert bench.ask(target, word, "GET", gzip_field, tag).status == 304
            tags |= {fields[b"ETag"], fields_of(plain)[b"ETag"]}
        assert target == "/openapi.json" or len(tags) > 1
    assert b"Content-Encoding" in fields


def test_document_that_is_cut_is_cut_again_when_it_has_changed(tmp_path: Path) -> None:
    """Fresh as ever: what is kept is compared with the document it was cut from."""
    put(str(tmp_path / "root"), {"time": u32(1)}, series=Series("coinbase", "BTC-USD", "MD"))
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json")
    key = bench.add("desk", Scope(symbols=("BTC-*",)))
    for symbol in ("BTC-EUR", "ETH-EUR", "BTC-GBP"):
        for _ in range(2):
            symbols = json.loads(bench.ask("/api/symbols", key).content)["symbols"]
            assert "ETH-EUR" not in symbols
        put(str(tmp_path / "root"), {"time": u32(1)}, series=Series("coinbase", symbol, "MD"))
    found = json.loads(bench.ask("/api/symbols", key).content)["symbols"]
    assert found == ["BTC-EUR", "BTC-GBP", "BTC-USD"]
    bench.close()


def test_grant_that_runs_out_is_asked_for_again(bench: GuardedBench, whole: str) -> None:
    """A head that is known lets nobody in after the end of its grant."""
    deadline = time.monotonic() + 30
    while True:  # an answer is kept once its files are older than a tick of the clock
        bench.ask(GUARDED[0], whole)
        request = next(
            request
            for request in bench.known
            if request.grant is not None and request.target == GUARDED[0].encode()
        )
        if bench.guard.respond_now(request) is not None:
            break
        assert time.monotonic() < deadline
    grant = request.grant
    assert grant is not None
    until_s, grant.until_s = grant.until_s, time.time()
    assert bench.guard.respond_now(request) is None
    grant.until_s = until_s


def test_cut_documents_are_bounded(bench: GuardedBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scopes ask."""
    for number in range(70):
        key = bench.add(f"key{number}", Scope(symbols=(f"BTC-{number}*",)))
        assert bench.ask("/api/symbols", key).status == 200
    scoped = bench.guard._scoped
    assert len(scoped._cut) == 64
    assert scoped._cut_bytes == sum(kept.nbytes for _, kept in scoped._cut.values())
    assert all(len(tag) < 64 for tag, _ in scoped._cut.values()), "no document that was cut"
    monkeypatch.setattr(scoped_module, "CUT_BYTES_MAX", 100)
    assert bench.ask("/api/symbols", bench.add("last", Scope(symbols=("BTC-X*",)))).status == 200
    assert scoped._cut_bytes <= 100


def test_fault_of_ours_is_a_500_that_is_logged(
    bench: GuardedBench, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in the guard, the client gets an answer that tells nothing."""

    async def fail(_request: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(bench.authenticator, "grant", fail)
    with capture_logs() as logs:
        response = bench.ask("/api/symbols", whole)
    assert response.status == 500
    assert b"secret" not in response.content
    assert [log["event"] for log in logs] == ["internal_error"]
