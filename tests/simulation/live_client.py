"""One client of a live stream in a simulated world: it reads as it likes, leaves, and comes back.

Owns its connection; what it has, and whether that follows from what it had, is `readers.Client`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.service.live.readers import Client as Has
from zerocopy.core.cursor import Cursor

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.live_run import LiveWorld
    from tests.simulation.sockets import Socket

_S = 1_000_000_000
_BINARY, _CLOSE = 2, 8
RESET_CODE = 4001


class StreamClient:
    """Follows a series with some columns, over as many connections as it takes."""

    def __init__(
        self,
        world: LiveWorld,
        columns: tuple[str, ...],
        *,
        is_websocket: bool,
        is_lazy: bool,
        leaves: float,
    ) -> None:
        self._world = world
        self._rng: Random = world.rng
        self.has = Has(columns, is_websocket=is_websocket, bytes_max=1 << 20)
        self._is_lazy = is_lazy
        self.leaves = leaves
        self._sock: Socket | None = None
        self._raw = b""
        self._is_open = False
        self._void: set[int] = set()  # days that were replaced, of which it may have records
        self._seen: set[int] = set()  # days of which this connection brought records
        self.wakes_ns = world.clock.now_ns
        self.connections = self.refusals = 0
        self.done = False

    # ---- for the world

    def can_act(self) -> bool:
        """Whether there is something to do now."""
        if self.done or self.wakes_ns > self._world.clock.now_ns:
            return False
        sock = self._sock
        return sock is None or bool(sock.outbox or sock.peer_reset or sock.output_ended)

    def act(self) -> None:
        """Connect, read some bytes, or leave."""
        if self._sock is None:
            self._connect()
        elif self._rng.random() < self.leaves:
            self.leave()
        else:
            self._read(self._sock)

    def leave(self) -> None:
        """In the middle of whatever comes."""
        assert self._sock is not None, "it is connected"
        if self._rng.random() < 0.5:
            self._sock.peer_resets()
        else:
            self._sock.peer_closes()
        self._disconnected()

    def finish(self) -> None:
        """It has everything, unless it was not told yet that a day was replaced."""
        self.done = not self._void
        if self._sock is not None:
            self.leave()
            self.wakes_ns = self._world.clock.now_ns + _S // 4

    def note_replaced(self, day: int) -> None:
        """Other files have taken the names of a day's. A cursor alone does not know the files."""
        cursor = self.has.cursor
        if self._sock is None:
            self._forget(day)
            return
        self._void.add(day)
        if cursor is None or (cursor.day == day and cursor.position and day not in self._seen):
            self.leave()

    # ---- the connection

    def _connect(self) -> None:
        has, world = self.has, self._world
        fields = ["Host: t"]
        target = f"/api/live?symbol={world.symbol}&type=MD&columns={','.join(has.columns)}"
        if has.is_websocket:
            fields += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            fields.append("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        if has.cursor is not None and not has.is_websocket and self._rng.random() < 0.5:
            fields.append(f"Last-Event-ID: {has.cursor}")
        elif has.cursor is not None:
            target += f"&from={has.cursor}"
        self._sock = world.kernel.connect(world.listener, world.shape.room)
        self._sock.peer_sends("\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode())
        self._raw, self._is_open = b"", False
        self._seen = set()
        has.begin()
        self.connections += 1

    def _disconnected(self) -> None:
        self._sock = None
        for day in self._void:
            self._forget(day)
        self._void.clear()

    def _forget(self, day: int) -> None:
        """As a client does that looks at /api/data first."""
        has = self.has
        if has.cursor is not None and has.cursor.day == day:
            has.reset(Cursor(day, 0))

    def _read(self, sock: Socket) -> None:
        count = self._rng.choice([1, 7, 50]) if self._is_lazy else self._rng.choice([50, 9_000])
        try:
            data = sock.peer_reads(count)
        except ConnectionResetError:
            data = b""
        if data is None:
            return
        if data:
            self._raw += data
            self._take()
        if not data and self._sock is not None:
            self._sock.peer_closes()
            self._disconnected()
        if self._is_lazy and self._rng.random() < 0.05:
            self._sleep(3.0)

    def _sleep(self, seconds_max: float) -> None:
        self.wakes_ns = self._world.clock.now_ns + int(self._rng.random() * seconds_max * _S)

    # ---- what came

    def _take(self) -> None:
        if not self._is_open:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if not found:
                return
            status = int(head.split(b" ", 2)[1])
            if status != (101 if self.has.is_websocket else 200):
                assert status in {404, 500, 503}, status
                self.refusals += 1
                self._end()
                self._sleep(1.0)
                return
            self._raw, self._is_open = rest, True
        before = self.has.cursor, self.has.resets
        is_over = self._take_frames() if self.has.is_websocket else self._take_chunks()
        cursor = self.has.cursor
        if self.has.resets > before[1]:
            assert cursor is not None
            self._void.discard(cursor.day)
        elif cursor is not None and cursor != before[0] and cursor.position:
            self._seen.add(cursor.day)
        if is_over:
            self._end()

    def _end(self) -> None:
        if self._sock is not None:
            self._sock.peer_closes()
            self._disconnected()

    def _take_chunks(self) -> bool:
        """Whole chunks (RFC 9112 section 7.1); whether the last one came."""
        while (end := self._raw.find(b"\r\n")) >= 0:
            nbytes = int(self._raw[:end], 16)
            if len(self._raw) < end + 4 + nbytes:
                return False
            content = self._raw[end + 2 : end + 2 + nbytes]
            assert self._raw[end + 2 + nbytes : end + 4 + nbytes] == b"\r\n"
            self._raw = self._raw[end + 4 + nbytes :]
            if not nbytes:
                assert not self._raw, "nothing follows"
                return True
            self.has.take_events(content)
        return False

    def _take_frames(self) -> bool:
        """Whole frames (RFC 6455 section 5.2); whether one closes."""
        while len(self._raw) >= 2:
            at, nbytes = 2, self._raw[1]
            if nbytes > 125:
                at = 4 if nbytes == 126 else 10
                nbytes = int.from_bytes(self._raw[2:at], "big")
            if len(self._raw) < at + nbytes:
                return False
            opcode, payload = self._raw[0] & 0xF, self._raw[at : at + nbytes]
            self._raw = self._raw[at + nbytes :]
            if opcode == _CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                if code == RESET_CODE:
                    self.has.reset(Cursor.parse(reason.rpartition(" ")[2]))
                return True
            if opcode == _BINARY:
                self.has.take_message(payload)
        return False
