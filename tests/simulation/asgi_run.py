"""Runs of the ASGI application bare: the same files, disk and clock as over HTTP/2, no Hypercorn.

Owns a server that is nothing but scopes, receive and send: it gives content late, takes pieces
when the seed says, and tells at any moment that the client has left.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from random import Random
from typing import TYPE_CHECKING, Any

from tests.h2client import Stream
from tests.simulation.disk import ERRORS, Disk, installed
from tests.simulation.http2_build import Built, constants
from tests.simulation.http2_judge import INTERNAL_ERROR, Ask, judge
from tests.simulation.http2_loop import SimLoop
from tests.simulation.http2_nature import Nature
from tests.simulation.http2_run import LONG_DELAY_S, PATIENCE_S, STEP_DELAYS_S
from tests.simulation.http2_tree import Tree, unix_now
from tests.transport.asgi_driver import scope_of
from zerocopy.transport.asgi import TransferAbortedError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from tests.simulation.http2_kinds import Kind

    Event = MutableMapping[str, Any]

SEND_DELAYS_S = (0.0, 0.0, 0.001, 0.02)
REQUESTS_MAX = 12


class Clients:
    """What the judge asks of a client: its streams, and that nobody sent GOAWAY."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.goaways: list[tuple[int, int]] = []


class PendingRequest:
    """One request and its answer: the scope, `receive` and `send` of a server."""

    def __init__(self, run: AsgiRun, ask: Ask, stream: Stream) -> None:
        self.run = run
        self.ask = ask
        self.stream = stream
        self._content = [ask.kind.content[:20], ask.kind.content[20:]] if ask.kind.content else []
        self._left = asyncio.Event()
        self._is_content_read = False

    def leave(self) -> None:
        """The client is gone."""
        self.stream.is_given_up = True
        self._left.set()

    async def receive(self) -> Event:
        """Content, then nothing until the client leaves."""
        if self._left.is_set():
            return {"type": "http.disconnect"}
        if self._is_content_read:
            await self._left.wait()
            return {"type": "http.disconnect"}
        await asyncio.sleep(self.run.rng.choice(SEND_DELAYS_S))
        body = self._content.pop(0) if self._content else b""
        self._is_content_read = not self._content
        return {"type": "http.request", "body": body, "more_body": bool(self._content)}

    async def send(self, event: Event) -> None:
        """Take what is sent, in the order that ASGI wants."""
        stream, run = self.stream, self.run
        run.digest.update(b"%f %r" % (run.loop.time(), sorted(event.items())))
        assert not stream.is_ended, "something after the end"
        if event["type"] == "http.response.start":
            assert not stream.status, "two heads"
            stream.status = event["status"]
            pairs = [(name.decode(), value.decode()) for name, value in event["headers"]]
            assert len(dict(pairs)) == len(pairs)
            assert all(name == name.lower() for name, _ in pairs)
            stream.fields = [pair for pair in pairs if pair[0] != "connection"]
            self.ask.answered_in, self.ask.faults_at_head = run.tree.now, len(run.faults)
        else:
            assert stream.status, "content before the head"
            stream.content += event.get("body", b"")
            stream.is_ended = not event.get("more_body", False)
        await asyncio.sleep(run.rng.choice(SEND_DELAYS_S))


class AsgiRun:
    """A run of `seed` over files in `root`, which is empty."""

    def __init__(self, seed: int, root: str) -> None:
        self.rng = Random(f"{seed} asgi")
        self.nature = Nature.of(self.rng)
        self.disk_rng = Random(f"{seed} disk")
        self.loop = SimLoop(Random(f"{seed} jobs"))
        self.disk = Disk(lambda: unix_now(self.loop.time()))
        symbols = any(kind.is_symbols for kind in self.nature.kinds)
        data = os.path.join(root, "data")
        self.tree = Tree(data, Random(f"{seed} tree"), self.disk, lists_symbols=symbols)
        self.constants_rng = Random(f"{seed} constants")
        self.peer = Clients()
        self.asks: dict[int, Ask] = {}
        self.faults: list[str] = []
        self.exchanges: list[PendingRequest] = []
        self.served: list[asyncio.Task[None]] = []
        self.digest = hashlib.blake2b(digest_size=16)
        self.was_lost = self.is_leaving = False
        self.steps = 0

    def execute(self) -> str:
        """Do it all; the digest of what was sent when."""
        try:
            with installed(self.disk), constants(self.constants_rng), self.loop:
                self.built = Built(
                    self.loop,
                    self.disk,
                    self.tree.root,
                    self.constants_rng,
                    self.nature.small_bytes_max,
                )
                self.disk.before = self._before
                self.loop.call_soon(self._step)
                assert self.loop.run_until(self._is_done, PATIENCE_S), "no end of an answer"
                self._end()
        finally:
            self.disk.close_all()
        judge(self)
        return self.digest.hexdigest()

    def _before(self, call: str) -> None:
        rng, nature = self.disk_rng, self.nature
        if self.loop.job and nature.amid and rng.random() < nature.amid:
            self.tree.change(is_amid=True)
        if call == "fstat" and self.loop.job in {"", "run"}:
            return  # OSError of an open descriptor: see http2_run.py
        if nature.faults and rng.random() < nature.faults:
            code = rng.choice(ERRORS[call])
            self.faults.append(call)
            raise OSError(code, os.strerror(code))

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.nature.steps:
            return
        rng = self.rng
        if rng.random() < self.nature.changes:
            self.tree.change()
        if rng.random() < 0.4 and len(self.loop.tasks) < REQUESTS_MAX:
            kinds = self.nature.kinds
            self._begin(rng.choices(kinds, [kind.weight for kind in kinds])[0])
        if rng.random() < 0.05 and self.exchanges:
            rng.choice(self.exchanges).leave()
        if rng.random() < 0.02:
            self.built.service.sweep()
        delay_s = rng.choice(STEP_DELAYS_S)
        self.loop.call_later(LONG_DELAY_S if rng.random() < 0.1 else delay_s, self._step)

    def _begin(self, kind: Kind) -> None:
        number = len(self.asks) + 1
        asked = kind.fields_now(self.tree, self.rng)
        ask = self.asks[number] = Ask(kind, 0, self.tree.now, None, len(self.faults), fields=asked)
        stream = self.peer.streams[number] = Stream(kind.method)
        exchange = PendingRequest(self, ask, stream)
        self.exchanges.append(exchange)
        fields = [(b"host", b"t"), *((n.encode(), v.encode()) for n, v in asked)]
        version = self.rng.choice(("1.1", "1.1", "1.0", "2"))
        scope = scope_of(kind.target, kind.method, http_version=version, headers=fields)
        self.served.append(self.loop.create_task(self._serve(exchange, scope)))

    async def _serve(self, exchange: PendingRequest, scope: Event) -> None:
        try:
            await self.built.app(scope, exchange.receive, exchange.send)
        except TransferAbortedError:
            exchange.stream.reset_code = INTERNAL_ERROR
            assert not exchange.stream.is_ended, "aborted after its end"
            return
        assert exchange.stream.is_ended or exchange.stream.is_given_up, "no end"

    def _is_done(self) -> bool:
        return self.steps > self.nature.steps and not self.loop.tasks and self.loop.is_idle

    def _end(self) -> None:
        for task in self.served:
            task.result()
        assert not self.loop.failures, self.loop.failures
        assert self.built.service._requests_in_flight == 0
        self.built.stop()
        if self.disk.fds:
            gc.collect()
        assert not self.disk.fds, f"{len(self.disk.fds)} descriptors are left open"
