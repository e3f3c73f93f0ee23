"""Many clients that come and leave, each from an address of its own, and what they say of it.

Owns who comes when. The server allows one connection an address: so each address can tell whether
its client's seat was given back, and a seat that was not is known by the kind of its client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from tests.faults.client import request_of
from tests.slow.leaving import deck
from tests.slow.leaving_talk import leave
from tests.slow.leaving_wire import GONE, Door, KeptError, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server import RunningServer
    from tests.slow.leaving import Kind, Site

AT_ONCE = 40
PACE_S = 1.2
"""From one client to the next in its place: less than half of a processor is used, with TLS."""

HOPELESS = 80
"""Connections that the server holds: more than there are clients. Seats are left to ask who."""

CONNECTIONS_MAX = 128
CLIENT_S = 60.0
"""Longer than any client lives: it reads what is there, or waits for `KEPT_S`."""

ASK_AGAIN_S = 0.3
HANDSHAKES = 8
NAMED_MAX = 30


class Crowd:
    """Clients of one server; the same seed has the same kinds come in the same order."""

    def __init__(self, server: RunningServer, site: Site, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.outcomes: Counter[str] = Counter()
        self.wrong: dict[str, Counter[str]] = {}
        """What was wrong, and with which kinds."""
        self._site = site
        self._rng = random.Random(seed)
        self._kinds: dict[str, Kind] = {}  # by the address of the client
        self._addresses = _addresses()
        self._is_over = False

    def text(self) -> str:
        """One line for people."""
        said = ", ".join(f"{name}: {count}" for name, count in sorted(self.outcomes.items()))
        return f"LEAVING_SEED={self.seed}, {len(self._kinds)} clients, {said}"

    def door(self, address: str | None = None) -> Door:
        """Of an address that no client has come from, unless one is given."""
        return Door(address or next(self._addresses), self.server.plain_port, self.server.tls_port)

    def run(self, wires: tuple[str, ...], seconds: float, only: str = "") -> None:
        """Have clients come and leave for `seconds`; returns when all have left."""
        asyncio.run(self._run(deck(wires, self._rng, only), seconds))

    def held(self) -> Counter[str]:
        """The kinds of the clients that have left, but for the server."""
        return asyncio.run(self._held())

    async def _run(self, kinds: Iterator[Kind], seconds: float) -> None:
        self._is_over = False
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._come_and_go(kinds)) for _ in range(AT_ONCE)]
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and not all(client.done() for client in clients):
                await asyncio.sleep(0.5)
                held = await asyncio.to_thread(self.server.metric, "zerocopy_connections")
                if held > HOPELESS or len(self.wrong) > AT_ONCE:
                    break
            self._is_over = True

    async def _come_and_go(self, kinds: Iterator[Kind]) -> None:
        while not self._is_over:
            kind, door = next(kinds), self.door()
            begun_s = time.monotonic()
            self._kinds[door.address] = kind
            try:
                async with asyncio.timeout(CLIENT_S):
                    self.outcomes[await leave(kind, door, self._site, self._rng)] += 1
            except (KeptError, TimeoutError) as error:
                text = str(error) or f"a client was not done within {CLIENT_S:.0f} s"
                self.wrong.setdefault(text, Counter())[str(kind)] += 1
            except Exception as error:
                error.add_note(f"a client of the kind {kind}; {self.text()}")
                raise
            await asyncio.sleep(max(0.0, begun_s + PACE_S - time.monotonic()))

    async def _held(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for address, kind in self._kinds.items():
            found[str(kind)] += not await self.door(address).is_open()
        return +found


def _addresses() -> Iterator[str]:
    """Of this machine, one after the other."""
    for number in range(256, 1 << 24):
        if number & 255 not in (0, 255):
            yield f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def shares(kinds: Counter[str]) -> str:
    """What the kinds have in common, then each of them, as lines for people."""
    fields = zip(*(kind.split("|") for kind in kinds.elements()), strict=True)
    common = [f"  {dict(Counter(field).most_common())}" for field in fields]
    named = [f"    {kind}" for kind, _ in kinds.most_common(NAMED_MAX)]
    more = [f"    and {len(kinds) - NAMED_MAX} more"] * (len(kinds) > NAMED_MAX)
    return "\n".join(["", *common, *named, *more])


def seats(crowd: Crowd, *, is_tls: bool) -> Counter[int]:
    """What clients are told that want one seat more than there are, all at once, by status."""
    return asyncio.run(_seats(crowd, is_tls=is_tls))


async def _seats(crowd: Crowd, *, is_tls: bool) -> Counter[int]:
    statuses: Counter[int] = Counter()
    handshakes = asyncio.Semaphore(HANDSHAKES)
    wanted = CONNECTIONS_MAX + 1

    async def sit() -> None:
        async with AsyncExitStack() as stack:
            async with handshakes:
                sock = await crowd.door().connect(is_tls=is_tls)
                wire = await stack.enter_async_context(Wire(sock))
                status = await _told(wire, is_tls=is_tls)
            statuses[status] += 1
            with suppress(*GONE):  # who is refused is closed
                while statuses.total() < wanted:
                    await asyncio.sleep(ASK_AGAIN_S)
                    await wire.send(request_of("/healthz"))
                    await wire.receive()

    async with asyncio.TaskGroup() as group:
        for _ in range(wanted):
            group.create_task(sit())
    return statuses


async def _told(wire: Wire, *, is_tls: bool) -> int:
    """The status of a first answer; 0 where the server closed the connection without one."""
    try:
        if is_tls:
            await wire.handshake("http/1.1")
        await wire.send(request_of("/healthz"))
        answer = await wire.receive()
    except GONE:
        return 0
    return int(answer[9:12] or 0)
