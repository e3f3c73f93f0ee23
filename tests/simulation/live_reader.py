"""A reader of a live stream in a simulated world, whatever protocol brings its bytes.

Owns what it has, which days of that were replaced, and the frames of a WebSocket. Whether what
comes follows from what it had is `readers.Client`'s to say.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.service.live.readers import Client as Has
from zerocopy.core.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.simulation.live_run import LiveWorld

_S = 1_000_000_000
_BINARY, _CLOSE, _PONG = 2, 8, 10
RESET_CODE = 4001


class Reader:
    """Follows a series with some columns, over as many streams as it takes."""

    def __init__(
        self, world: LiveWorld, columns: tuple[str, ...], *, is_websocket: bool, leaves: float
    ) -> None:
        self._world = world
        self._rng: Random = world.rng
        self.has = Has(columns, is_websocket=is_websocket, bytes_max=1 << 20)
        self.leaves = leaves
        self._void: set[int] = set()  # days that were replaced, of which it may have records
        self._seen: set[int] = set()  # days of which this stream brought records
        self.wakes_ns = world.clock.now_ns
        self.close_code: int | None = None  # of the close frame that came on this stream
        self.pongs: list[bytes] = []
        self.refusals = 0
        self.done = False

    @property
    def is_connected(self) -> bool:
        """Whether it has asked, and not left."""
        raise NotImplementedError

    def leave(self) -> None:
        """In the middle of whatever comes."""
        raise NotImplementedError

    # ---- for the world

    def finish(self) -> None:
        """It has everything, unless it was not told yet that a day was replaced."""
        self.done = not self._void
        if self.is_connected:
            self.leave()
            self.wakes_ns = self._world.clock.now_ns + _S // 4

    def note_replaced(self, day: int) -> None:
        """Other files have taken the names of a day's. A cursor alone does not know the files."""
        cursor = self.has.cursor
        if not self.is_connected:
            self._forget(day)
            return
        self._void.add(day)
        if cursor is None or (cursor.day == day and cursor.position and day not in self._seen):
            self.leave()

    # ---- one stream

    def _begin(self, last_id: str) -> tuple[str, list[tuple[str, str]]]:
        """Ask anew: the target, and the field `last_id` where the cursor is told by one."""
        has, fields = self.has, []
        target = f"/api/live?symbol={self._world.symbol}&type=MD&columns={','.join(has.columns)}"
        if has.cursor is not None and not has.is_websocket and self._rng.random() < 0.5:
            fields.append((last_id, str(has.cursor)))
        elif has.cursor is not None:
            target += f"&from={has.cursor}"
        self._seen, self.close_code = set(), None
        has.begin()
        return target, fields

    def _ended(self) -> None:
        for day in self._void:
            self._forget(day)
        self._void.clear()

    def _forget(self, day: int) -> None:
        """As a client does that looks at /api/data first."""
        has = self.has
        if has.cursor is not None and has.cursor.day == day:
            has.reset(Cursor(day, 0))

    def _refused(self, status: int) -> None:
        assert status in {404, 500, 503}, status
        self.refusals += 1
        self._sleep(1.0)

    def _sleep(self, seconds_max: float) -> None:
        self.wakes_ns = self._world.clock.now_ns + int(self._rng.random() * seconds_max * _S)

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """Some of the stream is taken as long as the block runs."""
        before, resets = self.has.cursor, self.has.resets
        yield
        cursor = self.has.cursor
        if self.has.resets > resets:
            assert cursor is not None
            assert not cursor.position, "a reset names the beginning of the day"
            self._void.discard(cursor.day)
        elif cursor is not None and cursor != before and cursor.position:
            self._seen.add(cursor.day)

    def _take_frames(self, raw: bytes) -> bytes:
        """Take whole frames (RFC 6455 section 5.2) up to the one that closes; what is left."""
        while len(raw) >= 2 and self.close_code is None:
            at, nbytes = 2, raw[1]
            if nbytes > 125:
                at = 4 if nbytes == 126 else 10
                nbytes = int.from_bytes(raw[2:at], "big")
            if len(raw) < at + nbytes:
                return raw
            opcode, payload = raw[0] & 0xF, raw[at : at + nbytes]
            raw = raw[at + nbytes :]
            if opcode == _CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
                if self.close_code == RESET_CODE:
                    self.has.reset(Cursor.parse(payload[2:].decode().rpartition(" ")[2]))
            elif opcode == _BINARY:
                self.has.take_message(payload)
            elif opcode == _PONG:
                self.pongs.append(payload)
        return raw
