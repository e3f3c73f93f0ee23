"""A service behind a guard, over a root with keys, for tests that ask it without a transport."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.service.bench import Bench
from tests.storage.trees import marks, put, u32
from zerocopy.access.authenticator import Authenticator
from zerocopy.access.keys import add_key
from zerocopy.core.access import Allowance, Scope
from zerocopy.core.http.messages import Request
from zerocopy.core.http.pending import CURRENT, PendingRequest
from zerocopy.observe import named_counters
from zerocopy.service.guard.guarded import GuardedService
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.access.limits import Limits
    from zerocopy.core.http.messages import Response

SCOPE = Scope(("coinbase", "k*"), ("BTC-*",), ("MD", "T?ADES"))
SEEN = [
    Series("coinbase", "BTC-USD", "MD"),
    Series("coinbase", "BTC-USD", "TRADES"),
    Series("kraken", "BTC-EUR", "MD"),
]
GUARDED = (
    "/api/data?symbol=BTC-USD&type=MD&start=0&end=99&columns=time,price",
    "/api/data",
    "/api/bars",
    "/api/live",
    "/api/catalog?symbol=BTC-USD",
    "/api/symbols",
    "/openapi.json",
    "/api/ticket",
    "/none",
    "*",
    "",
)


def make_root(root: Path, series: list[Series]) -> None:
    """Day files of these series, with times that tell the newest."""
    for each_of in series:
        put(str(root), {"time": u32(10, 20), "price": marks(2)}, series=each_of)
    for folder, _, names in os.walk(root):
        for name in names:
            modified_s = 1_700_000_000 + sum(os.path.relpath(folder, root).encode())
            os.utime(os.path.join(folder, name), (modified_s, modified_s))


class GuardedBench:
    """A guard over a service; `keys` makes keys, `ask` asks with one of them."""

    def __init__(self, root: Path, keys_path: Path, limits: Limits | None = None) -> None:
        self.inner = Bench(root, is_private=True)
        self.keys_path = str(keys_path)
        self.names_fd = named_counters.make_names()
        named_counters.add_row(self.names_fd, 1)
        self.executor = ThreadPoolExecutor(2)
        self.authenticator = Authenticator(Allowance(), self.keys_path)
        self.guard = GuardedService(
            self.inner.service,
            self.authenticator,
            self.executor,
            root=str(root),
            columns_max=4,
            counters=self.inner.counters,
            named=named_counters.NamedCounters(self.names_fd, 0),
            limits=limits,
        )
        self.known: dict[Request, Request] = {}
        self.pending: PendingRequest | None = None

    def add(self, name: str, scope: Scope = Scope(), **allowance: int) -> str:  # noqa: B008 - frozen
        """A key that is known at once."""
        key = add_key(self.keys_path, name, scope=scope, **allowance)
        self.look()
        return key

    def look(self) -> None:
        """What the worker does each second."""
        asyncio.run(self._look())

    async def _look(self) -> None:
        await self.guard.look()

    def ask(
        self, target: str, key: str | None, method: str = "GET", *fields: tuple[bytes, bytes]
    ) -> Response:
        """Ask as a transport does: equal requests are one object, answered at once if possible."""
        if key is not None:
            fields = (*fields, (b"authorization", b"Bearer " + key.encode()))
        request = Request(method.encode(), target.encode(), fields)
        request = self.known.setdefault(request, request)
        return self.guard.respond_now(request) or asyncio.run(self._respond(request))

    async def _respond(self, request: Request) -> Response:
        self.pending = PendingRequest(request, 0)
        CURRENT.set(self.pending)
        return await self.guard.respond(request)

    def close(self) -> None:
        """Give threads and descriptors back."""
        self.guard.close()
        self.executor.shutdown()
        self.inner.close()
