"""A service over a small root, for tests that ask it without a transport."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.computing import computed
from tests.living import live
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.service.service import Service
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planner
from zerocopy.storage.symbols.index import SymbolIndex

if TYPE_CHECKING:
    from pathlib import Path


class Bench:
    """A service with its counters, asked one request at a time."""

    def __init__(self, root: Path, *, is_private: bool = False, **changes: int) -> None:
        values = {"requests_in_flight_max": 10, "plan_cache_bytes_max": 1 << 20, "settle_s": 0}
        values |= changes
        self.root = root
        self.counters = [0] * len(SLOTS)
        self.files = OpenFiles(str(root), 8)
        self.executor = ThreadPoolExecutor(2)
        planner = Planner(
            root=str(root),
            files=self.files,
            dtypes=Dtypes({}),
            settling=Settling(values["settle_s"], 7),
            days_max=100,
            segments_max=1_000,
            small_answer_bytes_max=65_536,
        )
        self.service = Service(
            root=str(root),
            planner=planner,
            files=self.files,
            symbols=SymbolIndex(str(root), 100, lambda _sentence: None),
            executor=self.executor,
            readers=self.executor,
            readers_max=2,
            counters=self.counters,
            columns_max=4,
            closed_max_age_s=77,
            requests_in_flight_max=values["requests_in_flight_max"],
            plan_cache_bytes_max=values["plan_cache_bytes_max"],
            computed=computed(planner, self.files),
            live=live(self.files, self.executor, self.counters),
            is_private=is_private,
        )

    def ask(self, target: str, method: str = "GET", *fields: tuple[bytes, bytes]) -> Response:
        """Ask as a transport does: at once where possible, else waiting."""
        request = Request(method.encode(), target.encode(), fields)
        response = self.service.respond_now(request)
        return response or asyncio.run(self._respond(request))

    async def _respond(self, request: Request) -> Response:
        return await self.service.respond(request)

    def close(self) -> None:
        """Give threads and descriptors back."""
        self.executor.shutdown()
        self.files.close()
