"""A server that is killed or restarted amid transfers and streams: frames equal the oracle."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.client.ticker import Ticker
from tests.ports import free_port
from tests.server import ForkedServer
from zerocopy.client import Client
from zerocopy.client.layout import frame_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = 3_000_000
"""Two columns of it, 24 MB, are more than all buffers between server and client hold."""

KILL_AT = 1 << 20


class Restartable(ForkedServer):
    """A server that can be stopped and started on its port."""

    def kill_workers(self) -> None:
        """SIGKILL, as the kernel does where memory is short."""
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, which cuts off what is not done in time, and start it again."""
        ready = len(self.logged("ready"))
        self.stop()
        self.start()
        self.logged("ready", ready + 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Restartable, Path]]:
    """A large day, and a server of its own, which the tests may kill."""
    root = tmp_path_factory.mktemp("restarts")
    folder = root / "coinbase/X/MD"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    (np.arange(RECORDS) // 100).astype("<u4").tofile(folder / "time.01.01.70.bin")
    rng.random(RECORDS, np.float32).tofile(folder / "price.01.01.70.bin")
    environ = {
        "PORT": str(free_port()),
        "ZEROCOPY_TLS_PORT": str(free_port()),
        "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "0.1",
    }
    with Restartable(root, **environ) as server:
        yield server, root
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(params=["plain", "tls"])
def client(
    request: pytest.FixtureRequest, served: tuple[Restartable, Path], ca: str
) -> Iterator[Client]:
    """A client that has met the server."""
    server, _ = served
    url = f"http://127.0.0.1:{server.plain_port}"
    if request.param == "tls":
        url = f"https://127.0.0.1:{server.tls_port}"
    with Client(url, ca=ca) as made:
        made.symbols()
        yield made


class Once:
    """A progress function that does something amid the transfer, and counts what is told twice."""

    def __init__(self, act: object) -> None:
        self._act = act
        self._at = 0
        self.resumed = 0

    def __call__(self, received: int, total: int | None) -> None:
        """Act at `KILL_AT`; bytes that go back are a transfer that began anew."""
        self.resumed += received < self._at
        if self._at < KILL_AT <= received:
            assert total is not None
            assert received < total
            assert callable(self._act)
            self._act()
        self._at = received


def is_right(root: Path, times: np.ndarray, prices: np.ndarray) -> bool:
    """Whether these are all records, byte for byte."""
    folder = root / "coinbase/X/MD"
    return bool(
        times.tobytes() == (folder / "time.01.01.70.bin").read_bytes()
        and prices.tobytes() == (folder / "price.01.01.70.bin").read_bytes()
    )


@pytest.mark.usefixtures("each_read")
@pytest.mark.parametrize("act", ["kill_workers", pytest.param("restart", marks=pytest.mark.slow)])
def test_a_transfer_outlives_its_server(
    client: Client,
    served: tuple[Restartable, Path],
    tmp_path: Path,
    act: str,
) -> None:
    """Into memory and into a file; it goes on where it broke and is never begun anew."""
    server, root = served
    progress = Once(getattr(server, act))
    frame = client.data("X", "time,price", type="MD", progress=progress)
    assert is_right(root, frame["time"], frame["price"])
    assert progress.resumed == 0
    del frame
    progress = Once(getattr(server, act))
    path = client.download("X", "time,price", tmp_path / "x.bin", type="MD", progress=progress)
    frame = frame_of(path.read_bytes())
    assert is_right(root, frame["time"], frame["price"])
    assert progress.resumed == 0


def test_a_stream_outlives_its_server(client: Client, served: tuple[Restartable, Path]) -> None:
    """Records that are appended while it is gone come as well, each once."""
    server, root = served
    ticker = Ticker(root, "OVER-TLS" if "https" in repr(client) else "PLAIN")
    prices: list[float] = []
    with client.live(ticker.symbol, "time,price", type="MD") as stream:
        for act in (None, server.kill_workers, server.restart, server.kill_workers):
            ticker.append(25)
            if act is not None:
                act()
            ticker.append(25)
            while len(prices) < ticker.count:
                prices += next(stream)["price"].tolist()
    assert prices == list(range(200))
