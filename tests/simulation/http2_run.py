"""One run: a seed, a server, a client, a disk, and what must be true at the end.

Owns the order of what the client, the files and the wire do, drawn from the seed step by step, and
the invariants when it is over. What single answers may say is judged in http2_judge.py.
"""

from __future__ import annotations

import gc
import os
from random import Random

from h2.settings import SettingCodes

from tests.simulation.disk import ERRORS, Disk, installed
from tests.simulation.http2_build import Built, constants
from tests.simulation.http2_judge import Ask, judge
from tests.simulation.http2_loop import SimLoop
from tests.simulation.http2_nature import Nature
from tests.simulation.http2_tree import Tree, unix_now
from tests.simulation.http2_wire import Peer, Tap, Wire, attached
from tests.simulation.tls import PIECE_BYTES, TlsSocket
from zerocopy.core import counters as slots
from zerocopy.transport.http2.head import goaway_frame

STEP_DELAYS_S = (0.0, 0.0, 0.0, 0.0005, 0.002, 0.01)
LONG_DELAY_S = 0.2
STREAMS_OPEN_MAX = 20
PATIENCE_S = 150.0
"""Windows of 50 bytes, shared by many streams, take hundreds of reads of the disk for an answer."""
STALL_S = 300.0
"""More than write_progress_s of the server; see http2_build.py."""
WINDOW_MOST = 1 << 30
INBOX_MOST = 16_384


class Run:
    """A run of `seed` over files in `root`, which is empty."""

    def __init__(self, seed: int, root: str) -> None:
        self.rng = Random(f"{seed} steps")
        self.nature = Nature.of(self.rng)
        self.disk_rng = Random(f"{seed} disk")
        self.loop = SimLoop(Random(f"{seed} jobs"))
        self.disk = Disk(lambda: unix_now(self.loop.time()))
        self.tree = Tree(
            os.path.join(root, "data"),
            Random(f"{seed} tree"),
            self.disk,
            lists_symbols=any(kind.is_symbols for kind in self.nature.kinds),
        )
        self.asks: dict[int, Ask] = {}
        self.faults: list[str] = []
        self.unfinished: list[int] = []
        self.is_lost = False
        self.was_lost = False
        self.is_leaving = False
        self.is_wild = True
        self.steps = 0
        self.delivered = 0
        self.constants_rng = Random(f"{seed} constants")
        self.wire_rng = Random(f"{seed} wire")
        self.wire = Wire(self.loop, self.wire_rng)
        self.tls = TlsSocket(self.wire, self.wire_rng)
        self.tap = Tap(self.loop, self._on_head)
        self.is_half_closed = False

    # ---- the frame

    def execute(self) -> str:
        """Do it all; the digest of what was written when."""
        try:
            pieces = attached(self.wire, self.wire_rng.choice(PIECE_BYTES))
            with installed(self.disk), constants(self.constants_rng), pieces, self.loop:
                self._prepare()
                self._go_wild()
                self.was_lost = self.is_lost
                if not self.is_lost:
                    self._settle()
                self._end()
        finally:
            self.disk.close_all()
        judge(self)
        return self.tap.digest.hexdigest()

    def _prepare(self) -> None:
        rng = self.constants_rng
        self.built = Built(self.loop, self.disk, self.tree.root, rng, self.nature.small_bytes_max)
        self.connection = self.built.connect(self.tls, self.tap)
        self.peer = Peer(
            initial_window=rng.choice(self.nature.windows),
            connection_window=rng.choice((65_535, 65_535, 1 << 24)),
            max_frame_size=rng.choice((16_384, 16_384, 50_000)),
            header_table_size=rng.choice((0, 100, 4_096)),
            auto_window=rng.random() < 0.5,
        )
        self.disk.before = self._before

    def _go_wild(self) -> None:
        self.loop.call_soon(self._step)
        assert self.loop.run_until(lambda: not self.is_wild, 1e6)
        self.nature = self.nature._replace(faults=0.0, amid=0.0)

    def _before(self, call: str) -> None:
        """Before each call of storage's."""
        rng, nature = self.disk_rng, self.nature
        if self.loop.job and nature.amid and rng.random() < nature.amid:
            self.tree.change(is_amid=True)
        if call == "fstat" and self.loop.job in {"", "run"}:
            return  # OSError of an open descriptor ends a connection, not a stream
        if nature.faults and rng.random() < nature.faults:
            code = rng.choice(ERRORS[call])
            self.faults.append(call)
            raise OSError(code, os.strerror(code))

    def _on_head(self, stream_id: int) -> None:
        ask = self.asks[stream_id]
        ask.answered_in = self.tree.now
        ask.faults_at_head = len(self.faults)
        self.built.look()

    # ---- steps

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.nature.steps or self.is_lost:
            self.is_wild = False
            return
        rng = self.rng
        if rng.random() < self.nature.changes:
            self.tree.change()
        rng.choices(_ACTIONS, _WEIGHTS)[0](self)
        delay_s = rng.choice(STEP_DELAYS_S)
        self.loop.call_later(
            LONG_DELAY_S if rng.random() < self.nature.waits else delay_s, self._step
        )

    def ask(self) -> None:
        """Send a request."""
        rng, peer = self.rng, self.peer
        is_many = sum(1 for s in peer.streams.values() if not s.is_over) >= STREAMS_OPEN_MAX
        if self.is_leaving or is_many:
            return
        is_alone = self.nature.is_brisk and rng.random() < 0.7
        if is_alone:
            self.take()
            self.deliver()
        kinds = self.nature.kinds
        kind = rng.choices(kinds, [kind.weight for kind in kinds])[0]
        has_content = kind.content is not None
        fields = kind.fields_now(self.tree, rng)
        stream_id = peer.request(kind.target, kind.method, fields, end_stream=not has_content)
        self.asks[stream_id] = Ask(kind, peer.pipe.sent_total, fields=fields)
        if kind.content is not None:
            padding = rng.choice((None, 0, 3))
            peer.h2.send_data(stream_id, kind.content[:20], pad_length=padding)
            peer.flush()
            self.unfinished.append(stream_id)
            if rng.random() < 0.5:
                self.finish_content()
        if is_alone:
            self.deliver()

    def finish_content(self) -> None:
        """Send the rest of a request's content, if anybody wants it still."""
        if self.unfinished:
            stream_id = self.unfinished.pop()
            stream, content = self.peer.streams[stream_id], self.asks[stream_id].kind.content
            if content is not None and stream.reset_code is None and not stream.is_given_up:
                self.peer.h2.send_data(stream_id, content[20:], end_stream=True)
                self.peer.flush()

    def ask_again(self) -> None:
        """Send several requests, one behind the other."""
        for _ in range(self.rng.randint(2, 6)):
            self.ask()

    def deliver(self) -> None:
        """Let the server have some bytes, cut anywhere."""
        sent = self.peer.pipe.sent
        if not sent or len(self.wire.inbox) > INBOX_MOST:
            return
        count = self.rng.choice((1, 9, len(sent), len(sent), self.rng.randint(1, len(sent))))
        if self.nature.is_brisk:
            count = len(sent)
        self._deliver(count)

    def _deliver(self, count: int) -> None:
        sent = self.peer.pipe.sent
        data = bytes(sent[:count])
        del sent[:count]
        if self.is_half_closed:
            return
        self.delivered += len(data)
        for ask in self.asks.values():
            if ask.arrived_in is None and ask.offset <= self.delivered:
                ask.arrived_in = self.tree.now
                ask.faults_before = len(self.faults)
        self.wire.deliver(data)

    def take(self) -> None:
        """Let the client have some bytes, cut anywhere."""
        most = len(self.wire.outbox)
        if most:
            count = self.rng.choice((1, 20, most, most, self.rng.randint(1, most)))
            if self.nature.is_brisk:
                count = most
            self.peer.receive(self.wire.take(count))

    def give_window(self) -> None:
        """Open the window of the connection or of a stream."""
        count = self.rng.choice((1, 10, 300, 5_000, 200_000))
        self._widen(self.rng.choice([0, *self._open_streams()]), count)

    def reset(self) -> None:
        """Give a stream up."""
        if streams := self._open_streams():
            self.peer.reset(self.rng.choice(streams), self.rng.choice((0, 2, 8)))

    def set(self) -> None:
        """Change a setting."""
        if self.peer.settings_are_settled:
            rng = self.rng
            code, values = rng.choice(
                (
                    (SettingCodes.INITIAL_WINDOW_SIZE, self.nature.windows),
                    (SettingCodes.MAX_FRAME_SIZE, (16_384, 20_000)),
                    (SettingCodes.HEADER_TABLE_SIZE, (0, 60, 4_096)),
                )
            )
            # hpack tells of each change since the last block, and RFC 7541 section 4.2 of two.
            if code != SettingCodes.HEADER_TABLE_SIZE or self.tap.is_table_told:
                self.peer.change_settings({code: rng.choice(values)})

    def prioritize(self) -> None:
        """Send advice, as often as not about streams that are over."""
        rng, streams = self.rng, [*self.asks, 1, 99]
        child, parent = rng.choice(streams), rng.choice([0, *streams])
        if child != parent:
            self.peer.h2.prioritize(
                child, weight=rng.randint(1, 256), depends_on=parent, exclusive=rng.random() < 0.5
            )
            self.peer.flush()

    def ping(self) -> None:
        """Send a PING."""
        self.peer.h2.ping(b"12345678")
        self.peer.flush()

    def sweep(self) -> None:
        """Files that nobody reads are closed."""
        self.built.service.sweep()

    def leave(self) -> None:
        """Either side will have no further requests."""
        if self.rng.random() < 0.1:
            self.is_leaving = True
            if self.rng.random() < 0.5:
                for connection in self.built.server._http2:  # none once it is over
                    connection.leave()
            else:
                self.peer.send_bytes(goaway_frame(0, 0))

    def half_close(self) -> None:
        """The client says that it sends nothing more; what it has asked for is answered."""
        if self.rng.random() < 0.15 and not self.is_leaving:
            while self.unfinished:
                self.finish_content()
            self._widen(0, 1 << 24)
            for stream_id in self._open_streams():
                self._widen(stream_id, 1 << 20)
            self._deliver(len(self.peer.pipe.sent))
            self.wire.end_of_client()
            self.is_half_closed = self.is_leaving = True

    def lose(self) -> None:
        """The connection breaks, the client leaves, or the server has enough of it."""
        if self.rng.random() < 0.2:
            self.is_lost = True
            ends = [self.wire.lose, self.wire.end_of_client]
            for connection in self.built.server._http2:
                ends += [connection.reset, connection.end]
            self.rng.choice(ends)()

    def _open_streams(self) -> list[int]:
        streams = self.peer.streams.items()
        return [i for i, s in streams if not (s.is_over or s.is_given_up)]

    def _widen(self, stream_id: int, count: int, below: int = WINDOW_MOST) -> None:
        h2 = self.peer.h2
        now = self.peer.window_left if not stream_id else h2.remote_flow_control_window(stream_id)
        if now < below:
            self.peer.window(stream_id, count)

    # ---- the end

    def _settle(self) -> None:
        """From now on the client takes everything, and nothing changes: each answer must end."""
        self.loop.call_soon(self._drain_client)
        is_settled = self.loop.run_until(self._is_settled, PATIENCE_S)
        waiting = {i: self.asks[i].kind.name for i in self._open_streams()}
        assert is_settled or self.wire.is_over, f"no end of {waiting}"
        if self.is_half_closed:
            assert self.loop.run_until(lambda: self.wire.has_closed, PATIENCE_S), "it stays"
            assert not self._open_streams(), f"no end of {waiting} behind the last request"
            return
        # What is on its way, such as the last WINDOW_UPDATE, is handled now.
        self.loop.run_until(lambda: False, 0.05)
        if self.wire.is_over:
            assert self.is_leaving, f"the server left: {self.built.connections_failed}"
            return
        http2 = self.connection._http2
        assert http2 is not None
        assert not self.peer.pipe.sent
        assert http2.connection.outbound_flow_control_window == self.peer.window_left
        assert not http2._bodies
        assert not http2.streams
        left = {0} | {i for i in http2.stream_buffers if self.peer.streams[i].is_given_up}
        assert http2.stream_buffers.keys() <= left
        assert set(http2.priority._streams) <= left
        assert not self.built.server.context.bodies.segments_held

    def _drain_client(self) -> None:
        self.finish_content()
        for stream_id in (0, *self._open_streams()):
            self._widen(stream_id, 1 << 20, below=1 << 19)
        if self.peer.pipe.sent:
            self.rng.choice((self.deliver, self.deliver, self.take))()
        is_moving = bool(self.wire.outbox or self.peer.pipe.sent)
        if self.wire.outbox:
            self.peer.receive(self.wire.take(len(self.wire.outbox)))
        if not self.is_lost:
            self.loop.call_later(0.001 if is_moving else 0.01, self._drain_client)

    def _is_settled(self) -> bool:
        http2 = self.connection._http2
        if self.wire.is_over:
            return True
        return not (
            self._open_streams()
            or self.peer.pipe.sent
            or self.wire.outbox
            or self.connection.unsent_bytes
            or self.loop.jobs_open
            or http2 is None
            or http2.requests_open
        )

    def _end(self) -> None:
        """The client goes; nothing may be left of it."""
        self.is_lost = True
        # After its end of input the server reads no more: a stall tells that the client is gone.
        patience_s = STALL_S if self.wire.has_ended else PATIENCE_S
        if self.rng.random() < 0.3 and not self.wire.input_ended:  # bytes, and the reset behind
            self._widen(0, 10)
            self._deliver(len(self.peer.pipe.sent))
        self.wire.lose()
        done = lambda: not self.built.server._http2 and self.loop.is_idle  # noqa: E731
        assert self.loop.run_until(done, patience_s), f"still running: {self.loop.tasks}"
        self.loop.run_until(lambda: not self.loop.tasks, 1.0)
        assert not self.loop.tasks, f"left: {self.loop.tasks}"
        assert not self.loop.failures, self.loop.failures
        assert not self.built.connections_failed, self.built.connections_failed
        assert self.wire.has_closed, "the socket is left open"
        assert self.connection._serving.cancelled() or not self.connection._serving.exception()
        assert not self.built.server.context.bodies.segments_held
        assert self.built.counters[slots.CONNECTIONS_ACCEPTED] == 1
        assert self.built.counters[slots.CONNECTIONS] == 0
        assert self.built.service._requests_in_flight == 0
        self.built.stop()
        if self.disk.fds:
            gc.collect()
        assert not self.disk.fds, f"{len(self.disk.fds)} descriptors are left open"


_ACTIONS = (
    Run.ask, Run.ask_again, Run.deliver, Run.take, Run.give_window, Run.reset, Run.set,
    Run.prioritize, Run.ping, Run.sweep, Run.leave, Run.lose, Run.finish_content,
    Run.half_close,
)  # fmt: skip
_WEIGHTS = (14, 4, 24, 20, 8, 3, 3, 2, 1, 1, 1, 1, 3, 1)
