"""One client of a live stream over HTTP/1.1 in a simulated world: it reads, leaves, comes back.

Owns its connection; what it has is a `Reader`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.live_reader import Reader

if TYPE_CHECKING:
    from tests.simulation.live_run import LiveWorld
    from tests.simulation.sockets import Socket


class StreamClient(Reader):
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
        super().__init__(world, columns, is_websocket=is_websocket, leaves=leaves)
        self._is_lazy = is_lazy
        self._sock: Socket | None = None
        self._raw = b""
        self._is_open = False
        self.connections = 0

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

    @property
    def is_connected(self) -> bool:
        """Whether it has a socket."""
        return self._sock is not None

    def leave(self) -> None:
        """In the middle of whatever comes."""
        assert self._sock is not None, "it is connected"
        if self._rng.random() < 0.5:
            self._sock.peer_resets()
        else:
            self._sock.peer_closes()
        self._disconnected()

    # ---- the connection

    def _connect(self) -> None:
        has, world = self.has, self._world
        target, told = self._begin("Last-Event-ID")
        fields = ["Host: t"]
        if has.is_websocket:
            fields += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            fields.append("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        fields += [f"{name}: {value}" for name, value in told]
        self._sock = world.kernel.connect(world.listener, world.shape.room)
        self._sock.peer_sends("\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode())
        self._raw, self._is_open = b"", False
        self.connections += 1

    def _disconnected(self) -> None:
        self._sock = None
        self._ended()

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

    # ---- what came

    def _take(self) -> None:
        if not self._is_open:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if not found:
                return
            status = int(head.split(b" ", 2)[1])
            if status != (101 if self.has.is_websocket else 200):
                self._end()
                self._refused(status)
                return
            self._raw, self._is_open = rest, True
        with self._taking():
            if self.has.is_websocket:
                self._raw = self._take_frames(self._raw)
                is_over = self.close_code is not None
            else:
                is_over = self._take_chunks()
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
