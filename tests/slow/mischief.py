"""Rude clients of a soak, one function a kind; what they do get is checked all the same.

A kind is given what all share and a source of chance, and returns what is to be counted.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from tests.faults.client import TINY_BUFFER_BYTES, Client, request_of
from tests.faults.tls_client import (
    CANCEL,
    HELLO,
    client_hello,
    connect_raw,
    request_frame,
    reset,
    wide_client,
)
from tests.server import connect_to
from tests.slow.stalled import HUNG_UP, stall_plainly, stall_streams

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.server import RunningServer
    from tests.slow.world import World

GARBAGE = (
    b"\x16\x03\x01\x00\x05hello",
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: t\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"\r\n" * 10 + b"\x00" * 100,
)
FLOOD = 40
STALLED_MAX = 12


class Rascal:
    """The rude clients of one thread; `segments` counts those of answers that were given up."""

    def __init__(self, server: RunningServer, world: World) -> None:
        self.server = server
        self.world = world
        self.segments: Counter[str] = Counter()
        self._stalled: list[tuple[float, socket.socket]] = []

    def close(self) -> None:
        """Leave everything."""
        for _, sock in self._stalled:
            reset(sock)
        self._stalled.clear()

    def pipeline(self, chance: Random) -> str:
        """Up to fifty requests at once, answered in order; every byte is checked."""
        questions = [chance.choice(self.world.still[:-3]) for _ in range(chance.randint(2, 50))]
        with Client(self.server) as client:
            client.send(*(request_of(question.target) for question in questions))
            for question in questions:
                answer = client.answer()
                assert answer.status == 200
                assert answer.content == question.body, "answers out of order, or wrong"
        return "in order"

    def reset_amid_pipeline(self, chance: Random) -> str:
        """Some of many answers are read, the last one by half; then a reset."""
        with Client(self.server, TINY_BUFFER_BYTES) as client:
            many = self.world.many
            client.send(request_of(self.world.small[0].target), *[request_of(many.target)] * 3)
            assert client.answer().content == self.world.small[0].body
            assert client.head()[0] == 200
            self.segments["plain"] += many.segments
            part = client.read(chance.randrange(1, 5_000))
            assert many.body.startswith(part)
            client.reset()
        return "reset"

    def reset_connections(self, chance: Random) -> str:
        """Plain and HTTP/2 connections that go amid an answer of hundreds of segments."""
        many = self.world.many
        for _ in range(5):
            with Client(self.server, TINY_BUFFER_BYTES) as client:
                client.send(request_of(many.target))
                assert client.head()[0] == 200
                self.segments["plain"] += many.segments
                client.reset()
            sock = connect_raw(self.server, "h2", TINY_BUFFER_BYTES)
            sock.sendall(HELLO + request_frame(many.target))
            if chance.random() < 0.7:
                received = b""
                while len(received) < 2_000:
                    received += sock.recv(4_096)
                self.segments["tls"] += many.segments
            reset(sock)
        return "reset"

    def streams(self, chance: Random) -> str:
        """Many streams at once; some are cancelled amid their answers, the others are right."""
        with wide_client(self.server) as client:
            many, large = self.world.many, self.world.large
            kept = [chance.choice(self.world.small + self.world.medium) for _ in range(12)]
            asked = [(client.request(question.target), question) for question in kept]
            doomed = [client.request(chance.choice([many, large]).target) for _ in range(4)]
            self.segments["tls"] += many.segments
            for stream_id in doomed:
                client.reset(stream_id, CANCEL)
            for stream_id, question in asked:
                assert client.answer(stream_id).content == question.body
            client.ping()
        return "right"

    def rapid_resets(self, _chance: Random) -> str:
        """A hundred streams that are reset in the bytes that open them, below the bound."""
        with wide_client(self.server) as client:
            for _ in range(100):
                stream_id, raw = client.request_bytes(self.world.many_part.target)
                client.h2.reset_stream(stream_id, CANCEL)
                client.streams[stream_id].is_given_up = True
                client.send_bytes(raw + client.h2.data_to_send())
            client.ping()
            question = self.world.small[0]
            assert client.ask(question.target).content == question.body
        return "survived"

    def stall(self, chance: Random) -> str:
        """One more reader that stalls, on either path; the oldest ones give up, or were cut off."""
        is_tls = chance.random() < 0.5
        target = chance.choice([self.world.large, self.world.many]).target
        port = self.server.tls_port if is_tls else self.server.plain_port
        sock = (stall_streams if is_tls else stall_plainly)(port, target)
        self._stalled.append((time.monotonic() + chance.uniform(0.5, 8), sock))
        outcome = "stalled"
        for until_s, old in list(self._stalled):
            watch = select.poll()
            watch.register(old, select.POLLRDHUP)
            hung_up = any(event & HUNG_UP for _, event in watch.poll(0))
            if hung_up or time.monotonic() > until_s or len(self._stalled) > STALLED_MAX:
                self._stalled.remove((until_s, old))
                reset(old)
                outcome = "one was cut off" if hung_up else "one gave up"
        return outcome

    def flood(self, chance: Random) -> str:
        """Connections that say nothing, or a part of a head or of a handshake, and go together."""
        hello = client_hello()
        with ExitStack() as stack:
            for index in range(FLOOD):
                is_tls = index % 2
                port = self.server.tls_port if is_tls else self.server.plain_port
                sock = stack.enter_context(connect_to(port))
                said = hello if is_tls else request_of("/healthz")
                sock.sendall(said[: chance.choice([0, 5, len(said) - 2])])
        return "gone"

    def garbage(self, chance: Random) -> str:
        """What is no request at all: an answer of 4xx, an alert, or the end; never silence."""
        is_tls = chance.random() < 0.5
        port = self.server.tls_port if is_tls else self.server.plain_port
        with connect_to(port) as sock:
            sock.sendall(chance.choice(GARBAGE))
            sock.shutdown(socket.SHUT_WR)
            first = b""
            with suppress(ConnectionResetError):
                first = sock.recv(100)
        if not is_tls:
            assert first[:10] in {b"", b"HTTP/1.1 4", b"HTTP/1.1 5"}, first
        return "told" if first else "closed"

    def half_close(self, _chance: Random) -> str:
        """Who sends no more still gets all of the answer."""
        question = self.world.medium[0]
        with Client(self.server) as client:
            client.send(request_of(question.target))
            client.sock.shutdown(socket.SHUT_WR)
            answer = client.answer()
            assert answer.content == question.body
            assert client.is_closed()
        return "right"

    def abandoned_handshakes(self, chance: Random) -> str:
        """A finished handshake and nothing more, or an end without close_notify."""
        for _ in range(5):
            with suppress(ssl.SSLError, ConnectionError):
                sock = connect_raw(self.server, chance.choice(["h2", "http/1.1"]))
                if chance.random() < 0.5:
                    reset(sock)
                else:
                    sock.close()
        return "gone"

    @property
    def kinds(self) -> dict[Callable[[Random], str], int]:
        """Each kind and how often it comes."""
        return {
            self.pipeline: 10,
            self.reset_amid_pipeline: 8,
            self.reset_connections: 8,
            self.streams: 8,
            self.rapid_resets: 3,
            self.stall: 20,
            self.flood: 3,
            self.garbage: 10,
            self.half_close: 4,
            self.abandoned_handshakes: 4,
        }
