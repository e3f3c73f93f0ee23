"""Day files that change while TLS sends them from a mapping: the right bytes or a reset stream."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    OLD_S,
    TINY_BUFFER_BYTES,
    body_of,
    column_path,
    poll,
    request_of,
    seal,
    target_of,
    write_series,
)
from tests.faults.tls_client import INTERNAL_ERROR, TlsClient, wide_client
from tests.h2client import WINDOW_BYTES, H2Client
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORDS = 2_000_000
NBYTES = 4 * RECORDS
"""Of a column: more than kernel and connection take of an answer that nobody reads."""
OTHER_RECORDS = 100_000
OTHER = target_of("OTHER", "price")
TRUNCATIONS = 25
LOADERS = 2


class Scene:
    """A day of a type of its own, which a test may ruin, and the answer it would have had."""

    def __init__(self, root: Path, server: RunningServer, series: str, *, is_closed: bool) -> None:
        self.root, self.server, self.series = root, server, series
        self.price = write_series(root, series, RECORDS)
        if is_closed:
            seal(root, series)
        self.path = column_path(root, series, "price")
        self.target = target_of(series, "price")
        self.body = body_of(root, series, ["price"])
        self.workers = server.worker_pids()
        self.aborted = server.metric("zerocopy_transfers_aborted_total")

    def begin(self, client: H2Client) -> int:
        """Ask, read a first part, and wait until no more is sent: copying races with a change."""
        stream_id = client.request(self.target)
        content = client.streams[stream_id].content
        client.pump(lambda: len(content) >= 10_000, "the first bytes")
        self.stall()
        return stream_id

    def stall(self) -> None:
        """Wait until nothing more can be sent."""
        seen = [-1.0]

        def is_stalled() -> bool:
            seen.append(self.server.metric('zerocopy_sent_bytes_total{path="copy"}'))
            return seen[-1] == seen[-2]

        poll(is_stalled, "the answer to stall")

    def end(self, client: H2Client, stream_id: int) -> bool:
        """Read on to the end; the bytes so far are right. Whether the stream was reset."""
        stream = client.streams[stream_id]
        if not client.auto_window:
            client.window(stream_id, len(self.body))
        client.pump(lambda: stream.is_over, "the end of the stream")
        assert stream.content == self.body[: len(stream.content)], "never a mixture"
        if stream.reset_code is None:
            assert stream.answer().content == self.body
            return False
        assert stream.reset_code == INTERNAL_ERROR
        assert not stream.is_ended
        assert len(stream.content) < len(self.body)
        return True

    def assert_well(self, *, aborted: int) -> None:
        """So many transfers were cut, nobody died, and newcomers are served."""
        metric = "zerocopy_transfers_aborted_total"
        poll(lambda: self.server.metric(metric) >= self.aborted + aborted, "aborts to be counted")
        assert self.server.metric(metric) == self.aborted + aborted
        assert self.server.worker_pids() == self.workers
        assert self.server.get("/healthz").status == 200


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A root and its server."""
    root = tmp_path_factory.mktemp("changing-tls")
    write_series(root, "OTHER", OTHER_RECORDS)
    seal(root, "OTHER")
    with ForkedServer(root, USE_TLS="true", ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2") as server:
        yield root, server
    shutil.rmtree(root)


def new_scene(shared: tuple[Path, RunningServer], *, is_closed: bool) -> Scene:
    """A fresh day of 8 MB a column."""
    root, server = shared
    series = f"T{len(os.listdir(os.path.join(root, 'coinbase', 'BTC-USD')))}"
    return Scene(root, server, series, is_closed=is_closed)


@pytest.fixture
def closed(shared: tuple[Path, RunningServer]) -> Scene:
    """A day that settled long ago, so it is mapped."""
    scene = new_scene(shared, is_closed=True)
    mapped = scene.server.metric("zerocopy_mapped_bytes")
    with H2Client(scene.server) as client:
        scene.begin(client)
        assert scene.server.metric("zerocopy_mapped_bytes") >= mapped + NBYTES
    poll(lambda: scene.server.metric("zerocopy_connections") == 0, "the connection to be gone")
    scene.aborted = scene.server.metric("zerocopy_transfers_aborted_total")
    return scene


def shut_client(server: RunningServer) -> H2Client:
    """A client that stalls its streams after 64 KiB, by their windows."""
    return wide_client(server, window=WINDOW_BYTES, auto_window=False)


def slow_client(server: RunningServer) -> H2Client:
    """A client that stalls the connection, by not reading."""
    return wide_client(server, receive_buffer_bytes=TINY_BUFFER_BYTES)


STALLS = pytest.mark.parametrize(
    "connect", [pytest.param(shut_client, id="window"), pytest.param(slow_client, id="socket")]
)


@STALLS
@pytest.mark.parametrize("left_bytes", [0, 100_000, NBYTES - 4])
def test_closed_day_truncated_while_sent_resets_its_stream(
    closed: Scene, connect: Callable[[RunningServer], H2Client], left_bytes: int
) -> None:
    """However little is missing: RST_STREAM, no clean end, no SIGBUS, and the others go on."""
    expected = body_of(closed.root, "OTHER", ["price"])
    with connect(closed.server) as client, connect(closed.server) as neighbour:
        others = [(each, each.request(OTHER)) for each in (client, neighbour)]
        stream_id = closed.begin(client)
        os.truncate(closed.path, left_bytes)
        assert closed.end(client, stream_id)
        for each, other_id in others:
            if not each.auto_window:
                each.window(other_id, len(expected))
            assert each.answer(other_id).content == expected
            each.ping()
        assert client.ask("/healthz").status == 200
    closed.assert_well(aborted=1)
    assert closed.server.logged("transfer_aborted")
    answer = closed.server.get(closed.target)
    assert answer.status == 200
    assert b'"num_records":%d,' % (left_bytes // 4) in answer.content[:200]


def test_every_stream_of_a_truncated_day_is_reset(closed: Scene) -> None:
    """Ten streams of two connections stand in the same mapping: all are reset, none is short."""
    with shut_client(closed.server) as one, shut_client(closed.server) as two:
        streams = [(client, closed.begin(client)) for client in (one, two) for _ in range(5)]
        os.truncate(closed.path, 0)
        assert all(closed.end(client, stream_id) for client, stream_id in streams)
    closed.assert_well(aborted=10)


def test_truncation_over_http1_aborts_the_connection(closed: Scene) -> None:
    """HTTP/1.1 has no reset of a stream: TLS ends without close_notify, or TCP with a reset."""
    with TlsClient(closed.server, TINY_BUFFER_BYTES) as client:
        client.send(request_of(closed.target))
        _, fields = client.head()
        begun = client.read(100_000)
        closed.stall()
        os.truncate(closed.path, 100_000)
        nbytes = int(fields["content-length"])
        rest, is_aborted = client.read_until_end(nbytes - len(begun))
        body = begun + rest
        assert body == closed.body[: len(body)]
        assert len(body) < nbytes
        assert is_aborted, "close_notify says that nothing is missing"
    closed.assert_well(aborted=1)


def replaced(scene: Scene) -> None:
    """By rename."""
    with open(scene.path + ".new", "wb") as file:
        file.write(bytes(NBYTES))
    os.rename(scene.path + ".new", scene.path)


def rewritten(scene: Scene) -> None:
    """In place, as long as before."""
    with open(scene.path, "r+b") as file:
        file.write(bytes(NBYTES))


def deleted(scene: Scene) -> None:
    """The name goes."""
    os.unlink(scene.path)


@STALLS
@pytest.mark.parametrize("change", [replaced, rewritten, deleted])
def test_closed_day_changed_while_sent_is_never_mixed(
    closed: Scene, connect: Callable[[RunningServer], H2Client], change: Callable[[Scene], None]
) -> None:
    """The old bytes in full or a reset; whoever asks afterwards gets nothing old."""
    with connect(closed.server) as client:
        stream_id = closed.begin(client)
        change(closed)
        is_reset = closed.end(client, stream_id)
        assert client.ask("/healthz").status == 200
    closed.assert_well(aborted=int(is_reset))
    answer = closed.server.get(closed.target)
    assert closed.price[:100] not in answer.content
    if change is not deleted:
        assert answer.content.partition(b"\n")[2] == bytes(NBYTES)


@STALLS
def test_open_day_that_grows_while_sent_is_sent_as_planned(
    shared: tuple[Path, RunningServer], connect: Callable[[RunningServer], H2Client]
) -> None:
    """A recorder appends meanwhile: the answer is exactly what its header line promised."""
    scene = new_scene(shared, is_closed=False)
    with connect(scene.server) as client:
        stream_id = scene.begin(client)
        for _ in range(10):
            with open(scene.path, "ab") as file:
                file.write(os.urandom(400))
        assert not scene.end(client, stream_id)
    scene.assert_well(aborted=0)


class Loader(threading.Thread):
    """Asks for a day that is being ruined, again and again; each answer is right or cut off."""

    def __init__(self, server: RunningServer, target: str, price: bytes) -> None:
        super().__init__(daemon=True)
        self._server, self._target, self._price = server, target, price
        self.stopped = threading.Event()
        self.whole = self.cut = self.lost = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """A connection lasts until the worker dies, if it does."""
        try:
            while not self.stopped.is_set():
                try:
                    with wide_client(self._server) as client:
                        while not self.stopped.is_set() and not client.is_closed:
                            self._ask(client)
                except OSError:
                    self.lost += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            self.error = error

    def _ask(self, client: H2Client) -> None:
        streams = [client.streams[client.request(self._target)] for _ in range(2)]
        client.pump(lambda: client.is_closed or all(s.is_over for s in streams), "the answers")
        for stream in streams:
            line, is_whole_line, records = bytes(stream.content).partition(b"\n")
            if stream.status == 200 and is_whole_line:
                (column,) = json.loads(line)["columns"]
                assert records == self._price[: len(records)]
                assert len(records) <= column["data_length"] <= len(self._price)
            if stream.is_ended:
                self.whole += 1
                stream.answer()
            elif stream.reset_code is not None:
                self.cut += 1
                assert stream.reset_code == INTERNAL_ERROR
            else:
                self.lost += 1
            stream.content.clear()


def test_truncation_under_load_never_ends_the_service(
    shared: tuple[Path, RunningServer], record_property: Callable[[str, object], None]
) -> None:
    """Truncations amid copying: what was promised or a reset; a SIGBUS costs one worker."""
    root, server = shared
    price = write_series(root, "LOADED", RECORDS // 4)
    seal(root, "LOADED")
    path = column_path(root, "LOADED", "price")
    loaders = [Loader(server, target_of("LOADED", "price"), price) for _ in range(LOADERS)]
    for loader in loaders:
        loader.start()

    def ended() -> int:
        return sum(loader.whole + loader.cut + loader.lost for loader in loaders)

    try:
        for index in range(TRUNCATIONS):
            before = ended()
            poll(lambda: ended() > before or any(map(failed, loaders)), "answers")  # noqa: B023
            os.truncate(path, index * 4_099 * 4)
            with open(path + ".new", "wb") as file:
                file.write(price)
            os.utime(path + ".new", (OLD_S, OLD_S))
            os.rename(path + ".new", path)
    finally:
        for loader in loaders:
            loader.stopped.set()
        for loader in loaders:
            loader.join(30)
    assert [loader.error for loader in loaders if loader.error] == []
    assert server.get(target_of("LOADED", "price")).content.endswith(price)
    deaths = [event for event in server.events() if event["event"] == "worker_died"]
    assert {event["status"] for event in deaths} <= {-signal.SIGBUS}
    for name in ("whole", "cut", "lost"):
        record_property(name, sum(getattr(loader, name) for loader in loaders))
    record_property("deaths", len(deaths))
    assert sum(loader.cut for loader in loaders) > 0, "nothing was truncated amid an answer"
    assert server.get(OTHER).content == body_of(root, "OTHER", ["price"])


def failed(loader: Loader) -> bool:
    """Whether a loader has found a wrong answer."""
    return loader.error is not None


def test_worker_killed_by_sigbus_is_replaced(tmp_path: Path) -> None:
    """The supervisor starts another worker, which serves TLS on the same port."""
    write_series(tmp_path, "OTHER", OTHER_RECORDS)
    seal(tmp_path, "OTHER")
    expected = body_of(tmp_path, "OTHER", ["price"])
    with ForkedServer(tmp_path, USE_TLS="true") as server:
        (worker,) = server.worker_pids()
        with H2Client(server) as client:
            assert client.ask(OTHER).content == expected
            os.kill(worker, signal.SIGBUS)
            client.pump_to_end()
        # Without waiting: the connection stays in the listener's queue until the successor comes.
        with H2Client(server) as client:
            assert client.ask(OTHER).content == expected
        (death,) = server.logged("worker_died")
        assert death["status"] == -signal.SIGBUS  # type: ignore[comparison-overlap]
        assert worker not in server.worker_pids()
        assert server.metric("zerocopy_worker_restarts_total") == 1
