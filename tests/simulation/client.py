"""One client of the simulated server: what it sends, how it reads, and how it leaves.

Owns the framing of answers and the manners of a client, all from the seed. It does one small thing
at a time when the world says so, and keeps what it saw for the judgement at the end.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.answers import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.simulation.clock import Clock
    from tests.simulation.requests import Ask
    from tests.simulation.sockets import Socket

_S = 1_000_000_000
ONE_BY_ONE = 0.5
"""How many clients wait for each answer before they ask again."""
CONTINUE_WAIT_S = 0.4
"""How long a client waits for 100 (Continue) before it sends its content all the same."""


class Piece(NamedTuple):
    """Bytes that are sent at once, after so many answers, perhaps after 100 (Continue)."""

    data: bytes
    after: int
    continues: bool = False


class Manners(enum.Enum):
    """How a client behaves; all but the first two may be cut off."""

    HONEST = "reads all, then closes"
    HALF_CLOSING = "ends its side behind its last request, reads all"
    PAUSING = "sleeps between two pieces, sometimes beyond a deadline"
    LAZY = "reads a little now and then, sometimes nothing for longer than it may"
    SILENT = "stops in the middle of its last request"
    RESETTING = "resets at any time"
    LEAVING = "closes at any time, whatever is unread"


PATIENT = frozenset({Manners.HONEST, Manners.HALF_CLOSING})


class Client:
    """A connection and its script."""

    def __init__(
        self, rng: Random, clock: Clock, sock: Socket, asks: Sequence[Ask], manners: Manners
    ) -> None:
        self._rng = rng
        self._clock = clock
        self.sock = sock
        self.asks = asks
        self.manners = manners
        self.pieces = self._cut_up()
        self.replies: list[tuple[int, Reply]] = []  # with the offset at which each began
        self.ended: str | None = None  # "end" or "reset", as the client saw it
        self.gone = False
        self.wakes_ns = clock.now_ns
        self.continues = 0
        self.unread = bytearray()
        self._offset = 0  # where the present answer began in all that came
        self._head: tuple[int, dict[str, str]] | None = None
        self._head_nbytes = 0
        self._leaves_after = rng.randint(0, 40)
        self._may_leave = manners in {Manners.RESETTING, Manners.LEAVING}

    # ---- for the world

    @property
    def done(self) -> bool:
        """Whether it will never do anything again."""
        return self.gone

    def can_act(self) -> bool:
        """Whether there is something to do at this moment."""
        if self.gone or self.wakes_ns > self._clock.now_ns:
            return False
        sock = self.sock
        return bool(
            self._may_send()
            or sock.outbox
            or sock.peer_reset
            or sock.output_ended
            or self._leaves()
        )

    def act(self) -> None:
        """Do one small thing."""
        if self._leaves() and self._rng.random() < 0.3:
            self._leave()
            return
        readable = bool(self.sock.outbox or self.sock.peer_reset or self.sock.output_ended)
        if self._may_send() and (not readable or self._rng.random() < 0.5):
            self._send_piece()
        elif readable:
            self._read()

    @property
    def answered(self) -> bool:
        """Whether all answers came that can come."""
        if self.replies and (last := self.replies[-1][1]).whole and last.closes:
            return True
        return len(self.replies) == len(self.asks) and all(r.whole for _, r in self.replies)

    # ---- sending

    def _cut_up(self) -> list[Piece]:
        """The script in pieces: one request at a time, or pipelined and cut anywhere."""
        rng = self._rng
        one_by_one = rng.random() < ONE_BY_ONE
        pieces: list[Piece] = []
        joined = b""
        for index, ask in enumerate(self.asks):
            after = index if one_by_one else 0
            if ask.waits and rng.random() < 0.8:
                joined += ask.wire[: ask.head_nbytes]
                pieces += [Piece(piece, after) for piece in self._cuts(joined)]
                pieces.append(Piece(ask.wire[ask.head_nbytes :], 0, continues=True))
                joined = b""
            elif one_by_one or rng.random() < 0.5:
                pieces += [Piece(piece, after) for piece in self._cuts(joined + ask.wire)]
                joined = b""
            else:
                joined += ask.wire
        pieces += [Piece(piece, 0) for piece in self._cuts(joined)]
        if self.manners is Manners.SILENT:
            last = pieces.pop()
            pieces.append(last._replace(data=last.data[: rng.randint(0, len(last.data) - 1)]))
        return pieces

    def _cuts(self, data: bytes) -> list[bytes]:
        """Some pieces of `data`; mostly one."""
        if not data:
            return []
        count = self._rng.choice([1, 1, 1, 1, 1, 2, 3])
        ends = sorted({self._rng.randint(1, len(data)) for _ in range(count - 1)} | {len(data)})
        return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def _may_send(self) -> bool:
        if not self.pieces or self.sock.peer_closed or self.sock.input_ended:
            return False
        if self.replies and self.replies[-1][1].closes:
            return False  # nothing more is listened to
        piece = self.pieces[0]
        if len(self.replies) < piece.after:
            return False
        if not piece.continues:
            return True
        # Content: once 100 came, or the answer, or patience is over.
        return self.continues > 0 or self.wakes_ns + CONTINUE_WAIT_S * _S <= self._clock.now_ns

    def _send_piece(self) -> None:
        piece = self.pieces.pop(0)
        if piece.continues:
            self.continues = 0
        self.sock.peer_sends(piece.data)
        self.wakes_ns = self._clock.now_ns
        if not self.pieces and self.manners is Manners.HALF_CLOSING:
            self.sock.peer_ends()
        elif self.manners is Manners.PAUSING and self._rng.random() < 0.3:
            self._sleep(2.0)

    # ---- reading

    def _read(self) -> None:
        lazy = self.manners is Manners.LAZY
        count = self._rng.choice([1, 7, 50]) if lazy else self._rng.choice([200, 1_000, 9_000])
        try:
            data = self.sock.peer_reads(count)
        except ConnectionResetError:
            self._end("reset")
            return
        if data:
            self.unread += data
            self._parse()
            if lazy and self._rng.random() < 0.1:
                self._sleep(3.0)
            if self.answered and not self.pieces and not self.sock.outbox:
                self._finish()
        elif data == b"":
            self._end("end")

    def _parse(self) -> None:
        while self._head is not None or b"\r\n\r\n" in self.unread:
            status, fields = self._read_head()
            if status == 100:
                self.continues += 1
                self._forget_answer(0)
                continue
            promised = int(fields.get("content-length", "0"))
            asked = self.asks[len(self.replies)] if len(self.replies) < len(self.asks) else None
            length = 0 if asked is not None and asked.is_head else promised
            if len(self.unread) < length:
                return
            reply = Reply(status, fields, bytes(self.unread[:length]), promised, whole=True)
            self.replies.append((self._offset, reply))
            self._forget_answer(length)

    def _read_head(self) -> tuple[int, dict[str, str]]:
        if self._head is None:
            at = self.unread.index(b"\r\n\r\n")
            line, *lines = self.unread[:at].decode("latin-1").split("\r\n")
            assert line.startswith("HTTP/1.1 "), f"no status line: {line[:99]!r}"
            pairs = [field.partition(": ") for field in lines]
            self._head = int(line.split()[1]), {name.lower(): value for name, _, value in pairs}
            self._head_nbytes = at + 4
            del self.unread[: self._head_nbytes]
        return self._head

    def _forget_answer(self, length: int) -> None:
        self._offset += self._head_nbytes + length
        del self.unread[:length]
        self._head = None

    @property
    def cut_off(self) -> bool:
        """Whether a part of an answer came, and not all of it."""
        return bool(self.unread) or self._head is not None

    def partial(self) -> tuple[int, Reply] | None:
        """The answer that was cut off, if its head came."""
        if self._head is None:
            return None
        status, fields = self._head
        promised = int(fields.get("content-length", "0"))
        return self._offset, Reply(status, fields, bytes(self.unread), promised, whole=False)

    # ---- leaving

    def _leaves(self) -> bool:
        if not self._may_leave:
            return False
        self._leaves_after -= 1
        return self._leaves_after < 0

    def _leave(self) -> None:
        self.gone = True
        if self.manners is Manners.RESETTING:
            self.sock.peer_resets()
        else:
            self.sock.peer_closes()

    def _finish(self) -> None:
        """Everything came; close, unless the end of the connection is to be seen too."""
        last = self.replies[-1][1] if self.replies else None
        if last is not None and (last.closes or self.manners is Manners.HALF_CLOSING):
            return
        self.gone = True
        self.sock.peer_closes()

    def _end(self, how: str) -> None:
        self.ended = how
        self.gone = True
        self.sock.peer_closes()

    def _sleep(self, seconds_max: float) -> None:
        self.wakes_ns = self._clock.now_ns + int(self._rng.random() * seconds_max * _S)
