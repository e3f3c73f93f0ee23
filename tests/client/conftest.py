"""One data root and one server on both paths, shared by these tests."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.certificate import authority
from tests.server import ForkedServer, RunningServer
from zerocopy.client import AsyncLive, Client
from zerocopy.client.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 86_400
FIRST_S = 1_738_281_600
"""2025-01-31 00:00 UTC, the first of `DAYS`."""

DAYS = ("31.01.25", "01.02.25", "02.02.25")
RECORDS = 20_000
"""Of each day."""


def write_day(folder: Path, day: str, start_s: int, records: int, *, seed: int = 0) -> None:
    """Write `time` (with repetitions), `price`, `nanos`, `id` (u8) and `order` (S16) of a day."""
    rng = np.random.default_rng(seed + start_s)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "time": (start_s + np.sort(rng.integers(0, DAY_S, records))).astype("<u4"),
        "price": rng.normal(100, 10, records).astype("<f4"),
        "nanos": rng.integers(0, 10**9, records).astype("<u4"),
        "id": rng.integers(0, 2**63, records).astype("<u8"),
        "order": rng.integers(0, 256, 16 * records).astype("u1"),
    }
    for name, values in columns.items():
        values.tofile(folder / f"{name}.{day}.bin")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three days of X, of which the last lacks `id`; no test changes them."""
    path = tmp_path_factory.mktemp("client")
    for index, day in enumerate(DAYS):
        write_day(path / "coinbase/X/MD", day, FIRST_S + index * DAY_S, RECORDS)
    (path / "coinbase/X/MD" / f"id.{DAYS[2]}.bin").unlink()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[RunningServer]:
    """HTTP/1.1 in the plain and over TLS."""
    environ = {
        "ZEROCOPY_TLS_PORT": "0",
        "ZEROCOPY_COLUMNS_id": "u8",
        "ZEROCOPY_COLUMNS_order": "S16",
    }
    with ForkedServer(root, **environ) as running:
        yield running


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PEM file of the authority that the server's certificate is of."""
    path = tmp_path_factory.mktemp("ca") / "ca.crt"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(params=["plain", "tls"])
def url(request: pytest.FixtureRequest, server: RunningServer) -> str:
    """Where the server is, on each path."""
    if request.param == "tls":
        return f"https://127.0.0.1:{server.tls_port}"
    return f"http://127.0.0.1:{server.plain_port}"


@pytest.fixture
def client(url: str, ca: str) -> Iterator[Client]:
    """A client of the server, on each path."""
    with Client(url, ca=ca) as made:
        yield made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which then take no time."""
    waits: list[float] = []

    def pause(stop: Stop, seconds: float) -> None:
        waits.append(seconds)
        stop.check()

    async def pause_of_stream(_: AsyncLive, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(Stop, "pause", pause)
    monkeypatch.setattr(AsyncLive, "_pause", pause_of_stream)
    return waits
