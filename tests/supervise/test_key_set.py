"""The key set at an URL: fetched, renewed, asked for; and a source that fails in each way."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.issuing import jwk, key_set
from tests.issuing_server import KeySetServer, trust_file, wait_until
from tests.table import each
from zerocopy.access.keyset_source import KEY_SET_BYTES_MAX, KeySetMemory
from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector
from zerocopy.supervise import key_set as module
from zerocopy.supervise.key_set import KeySetFetcher, check_url, is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE = key_set(jwk("ES256", "one"))
TWO = key_set(jwk("ES256", "one"), jwk("EdDSA", "two"))
NEVER_S = 10_000.0


@pytest.fixture(name="environment", autouse=True)
def fixture_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trust our authority, no proxy, and a clock for the impatient."""
    monkeypatch.setenv("SSL_CERT_FILE", trust_file(tmp_path_factory.mktemp("trust")))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.05)


@pytest.fixture(name="server")
def fixture_server() -> Iterator[KeySetServer]:
    """An issuer with one key."""
    with KeySetServer(ONE) as server:
        yield server


class Fetching:
    """A fetcher and a worker that reads what it has fetched."""

    def __init__(self, url: str, refresh_s: float = NEVER_S) -> None:
        self.collector = Collector(make_counters(0), 0)
        self.fetcher = KeySetFetcher(url, refresh_s, self.collector)
        self.worker = KeySetMemory(*self.fetcher.fds)

    def count(self, result: str) -> int:
        """How many fetches were `done` or `failed`."""
        return self.collector.key_set_fetches[result]

    def wait_for(self, result: str, times: int) -> None:
        """Until there were so many."""
        wait_until(lambda: self.count(result) >= times, f"{times} {result}")

    def stop(self) -> None:
        """Stop it, and wait until its thread has gone."""
        self.fetcher.stop()
        for thread in threading.enumerate():
            if thread.name == "key set":
                thread.join(30)
                assert not thread.is_alive()


@pytest.fixture(name="fetch")
def fixture_fetch() -> Iterator[Callable[..., Fetching]]:
    """Makes fetchers, and stops them."""
    made: list[Fetching] = []

    def make(url: str, refresh_s: float = NEVER_S) -> Fetching:
        made.append(Fetching(url, refresh_s))
        return made[-1]

    yield make
    for each_ in made:
        each_.stop()


def test_a_set_is_fetched_at_once(server: KeySetServer, fetch: Callable[..., Fetching]) -> None:
    """Workers have it, and the metrics page says how old it is."""
    fetching = fetch(server.url)
    fetching.wait_for("done", 1)
    keys = fetching.worker.read_if_changed()
    assert keys is not None
    assert keys.knows("one")
    assert fetching.worker.age_s < 60
    page = {family.name: family.samples for family in fetching.collector.collect()}
    assert 0 <= page["zerocopy_jwks_age_seconds"][0].value < 60
    fetches = page["zerocopy_jwks_fetches"]
    assert {each_.labels["result"]: each_.value for each_ in fetches} == {"done": 1, "failed": 0}


def test_without_an_url_nothing_has_an_age() -> None:
    """Who uses no tokens need not wonder."""
    page = {family.name: family.samples for family in Collector(make_counters(0), 0).collect()}
    assert page["zerocopy_jwks_age_seconds"] == []


def test_a_set_is_fetched_again_and_again(
    server: KeySetServer, fetch: Callable[..., Fetching]
) -> None:
    """So a new key comes without anybody asking."""
    fetching = fetch(server.url, 0.01)
    fetching.wait_for("done", 3)
    server.document = TWO
    seen: list[int] = []

    def has_two() -> bool:
        keys = fetching.worker.read_if_changed()
        seen.extend([] if keys is None else [len(keys)])
        return seen[-1:] == [2]

    wait_until(has_two, "the new key")


def test_a_worker_that_asks_has_it_fetched_sooner(
    server: KeySetServer, fetch: Callable[..., Fetching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token names a key that is new: nobody waits for the next turn."""
    monkeypatch.setattr(module, "ASKED_AFTER_S", 0.0)
    fetching = fetch(server.url)
    fetching.wait_for("done", 1)
    server.document = TWO
    fetching.worker.ask()
    fetching.wait_for("done", 2)
    assert len(fetching.worker.read_if_changed() or ()) == 2


def test_workers_that_ask_and_ask_do_not_make_it_fetch(
    server: KeySetServer, fetch: Callable[..., Fetching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can name a key that is unknown; the issuer is not flooded by that."""
    monkeypatch.setattr(module, "ASKED_AFTER_S", NEVER_S)
    fetching = fetch(server.url)
    fetching.wait_for("done", 1)
    for _ in range(10):
        fetching.worker.ask()

        def is_heard() -> bool:
            try:
                os.eventfd_read(fetching.fetcher.fds[1])
            except BlockingIOError:
                return True
            fetching.worker.ask()  # we took it from the thread
            return False

        wait_until(is_heard, "the thread took it")
    assert server.asked == 1


FAILURES: dict[str, Callable[[KeySetServer], None]] = {
    "the answer was 500": lambda of: answer(of, b"", 500),
    "the answer was 404": lambda of: answer(of, ONE, 404),
    "the answer was 302": lambda of: answer(of, b"", 302),
    "it is no JSON": lambda of: answer(of, b"<html>maintenance</html>"),
    "none of its 0 keys": lambda of: answer(of, b'{"keys": []}'),
    "a key set has at most": lambda of: answer(of, b" " * (KEY_SET_BYTES_MAX + 1)),
    "the answer was cut short": lambda of: answer(of, TWO, 200, len(TWO) + 1),
    "did not come within": lambda of: setattr(of, "answer", of.drip),
    "within": lambda of: setattr(of, "answer", of.drip_head),
    "timed out": lambda of: setattr(of, "answer", of.stall),
    "refused": lambda of: of.close(),
}


def answer(
    server: KeySetServer, content: bytes, status: int = 200, length: int | None = None
) -> None:
    """Have `server` answer with this."""
    server.answer = lambda handler: server.send_bytes(handler, content, status, length)


def test_a_source_that_fails_changes_nothing_until_it_is_back(
    server: KeySetServer, fetch: Callable[..., Fetching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is counted, and told of once; the set before stays, and ages."""
    fetching = fetch(server.url, 0.01)
    fetching.wait_for("done", 1)
    assert len(fetching.worker.read_if_changed() or ()) == 1
    for told, fail in FAILURES.items():
        with capture_logs() as logs:
            if told in {"did not come within", "within", "timed out"}:
                monkeypatch.setattr(module, "FETCH_S", 0.4)
                fetching.wait_for("done", fetching.count("done") + 2)  # the next has so long
            failed = fetching.count("failed")
            fail(server)
            fetching.wait_for("failed", failed + 2)
            monkeypatch.setattr(module, "FETCH_S", 30.0)
            done = fetching.count("done")
            assert fetching.worker.read_if_changed() is None, told
            server.answer = server.send
            if told == "refused":
                server.open()
            fetching.wait_for("done", done + 2)
        lines = [line for line in logs if line["event"] == "key_set_not_fetched"]
        reasons = [line["reason"] for line in lines]
        assert len(set(reasons)) == len(reasons), "each once"
        assert told in reasons[-1], "what came before is a connection that was just being made"
        assert {line["url"] for line in lines} == {server.url}
        assert [line["keys"] for line in logs if line["event"] == "key_set_fetched"] == [1]
    server.document = TWO
    wait_until(lambda: len(fetching.worker.read_if_changed() or ()) == 2, "the new set")


def test_a_certificate_of_nobody_is_not_believed(
    server: KeySetServer,
    fetch: Callable[..., Fetching],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who stands between could hand out keys of his own."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    fetching = fetch(server.url)
    fetching.wait_for("failed", 2)
    assert server.asked == 0
    assert fetching.worker.read_if_changed() is None


def test_nothing_is_left_when_it_is_stopped(server: KeySetServer) -> None:
    """Its descriptors are closed by the thread that uses them."""
    fetching = Fetching(server.url)
    memory_fd, wanted_fd = fetching.fetcher.fds
    fetching.wait_for("done", 1)
    fetching.stop()
    for fd in (memory_fd, wanted_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@each("url", [
    "https://issuer.example/certs", "https://issuer.example:8443", "http://127.0.0.1:8080/certs",
    "http://[::1]/certs", "http://localhost/certs",
])  # fmt: skip
def test_an_url_that_nobody_between_can_change_is_taken(url: str) -> None:
    """Https, and http of this machine."""
    assert is_url(url)
    check_url(url)


@each("url", [
    "http://issuer.example/certs", "http://127.0.0.1.example/certs", "ftp://127.0.0.1/certs",
    "file:///etc/passwd", "https://", "https:///certs", "https://issuer.example:port/certs",
    "https://user:word@issuer.example/certs", "http://localhost@issuer.example/", "https://[::1/",
])  # fmt: skip
def test_any_other_url_is_refused(url: str) -> None:
    """In a line that names the option."""
    assert is_url(url)
    with pytest.raises(ConfigError, match=r"^\[auth\] jwks: "):
        check_url(url)
