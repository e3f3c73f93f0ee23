"""The generations of workers: one serves, one may be getting ready, some may still drain.

Owns which is which, and the sockets that they hand on. A new generation serves once all its workers
are prepared. The old one drains once all of the new one accept, so at every moment one of them
accepts. If the new one fails, everything stays as it was. It must never know signals.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError
from zerocopy.observe.log import get_logger
from zerocopy.supervise.access_share import NO_SHARE, AccessShare
from zerocopy.supervise.generation import Generation, workers_of
from zerocopy.supervise.listeners import open_listeners, resolve_host
from zerocopy.supervise.resolve import resolve_within

if TYPE_CHECKING:
    import selectors
    import socket
    from collections.abc import Mapping

    from zerocopy.config.load import Config
    from zerocopy.observe.metrics import Collector
    from zerocopy.supervise.certificate import PemCopies
    from zerocopy.supervise.resolve import Address
    from zerocopy.supervise.shared_counters import SharedCounters

_log = get_logger(__name__)


class Generations:
    """The generations of one supervisor, the first made from `config` at once."""

    def __init__(
        self,
        config: Config,
        passed: Mapping[str, list[socket.socket]],
        collector: Collector,
        counters: SharedCounters,
        selector: selectors.BaseSelector,
        *,
        certificate: PemCopies | None = None,
        ticket_secret: bytes | None = None,
    ) -> None:
        self._passed = passed
        self._access = AccessShare(collector)
        self._collector = collector
        self._counters = counters
        self._selector = selector
        within = partial(resolve_within, deadline_s=config.server.start_deadline_s)
        host = resolve_host(config, passed, how=within)
        listeners = open_listeners(config, workers_of(config), passed, host=host)
        try:
            listeners.listen(config.server.backlog)
        except ConfigError:
            listeners.close()
            raise
        self.serving = Generation(
            1,
            config,
            listeners,
            counters,
            selector,
            certificate=certificate,
            share=self._access.take(config, ticket_secret),
            is_candidate=False,
        )
        self._candidate: Generation | None = None
        self._predecessor: Generation | None = None
        self._leaving: list[Generation] = []
        self._count()

    # ---- how it stands

    @property
    def count(self) -> int:
        """How many generations have processes, or will have some."""
        return len(self._all())

    @property
    def is_changing(self) -> bool:
        """Whether a successor is on its way."""
        return self._candidate is not None or self._predecessor is not None

    @property
    def is_gone(self) -> bool:
        """Whether all were told to stop, and have ended."""
        return all(generation.is_gone for generation in self._all())

    @property
    def due_at_s(self) -> float:
        """When `advance` has something to do although no worker reports."""
        return min(generation.due_at_s for generation in self._all())

    def _all(self) -> list[Generation]:
        others = (self._candidate, self._predecessor, *self._leaving)
        return [self.serving, *(other for other in others if other is not None)]

    # ---- what happens

    def advance(self) -> None:
        """Let each generation reap, kill and start what is due, and forget those that have gone."""
        for generation in self._all():
            restarts = generation.restarts
            generation.advance()
            self._collector.worker_restarts += generation.restarts - restarts
        for generation in [each for each in self._leaving if each.is_gone]:
            self._leaving.remove(generation)
            generation.release()
            self._access.give_back(generation.share)
            _log.info("generation_gone", generation=generation.number)
        self._count()

    def resolve(self, config: Config) -> Address | None:
        """Resolve the host for `propose`. Blocks, so call it in a thread.

        Raises:
            ConfigError: there is no such host.
        """
        return resolve_host(config, self._passed, self.serving.listeners)

    def propose(
        self,
        config: Config,
        certificate: PemCopies | None = None,
        host: Address | None = None,
        ticket_secret: bytes | None = None,
    ) -> None:
        """Begin to replace the generation that serves; `certificate` is closed with the new one.

        `host` is what `resolve` has found for the same configuration, `ticket_secret` what
        `check_auth` has.

        Raises:
            ConfigError: an address cannot be bound, or there is no way on; nothing has changed.
        """
        assert not self.is_changing, "one after the other"
        try:
            self._candidate = self._make_candidate(config, certificate, host, ticket_secret)
        except Exception as error:  # a reload must not end a server that serves
            if certificate is not None:
                certificate.close()
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"the configuration cannot be served: {error!r}") from error

    def _make_candidate(
        self,
        config: Config,
        certificate: PemCopies | None,
        host: Address | None,
        ticket_secret: bytes | None,
    ) -> Generation:
        before = self.serving.listeners
        listeners = open_listeners(config, workers_of(config), self._passed, before, host=host)
        number, share = self.serving.number + 1, NO_SHARE
        try:
            share = self._access.take(config, ticket_secret)
            return Generation(
                number,
                config,
                listeners,
                self._counters,
                self._selector,
                certificate=certificate,
                share=share,
                is_candidate=True,
            )
        except BaseException:
            self._access.give_back(share)
            listeners.close(but=before)
            raise

    def step(self) -> bool:
        """Go on with a replacement as far as possible now. Returns whether it has ended.

        Raises:
            ConfigError: the successor cannot serve; nothing has changed.
        """
        candidate = self._candidate
        if candidate is not None and candidate.failure is not None:
            self._refuse(candidate)
            raise ConfigError(candidate.failure)
        if candidate is not None and candidate.is_prepared:
            try:
                candidate.listeners.listen(candidate.config.server.backlog)
            except ConfigError:
                self._refuse(candidate)
                raise
            self._candidate, self._predecessor = None, self.serving
            self.serving = candidate
            candidate.commit()
        if self._predecessor is None or not self.serving.is_accepting:
            return False
        # Sockets of addresses that are given up: their workers have the last copies, and take from
        # the queues what waits there before they close them.
        self._predecessor.listeners.close(but=self.serving.listeners)
        self._predecessor.leave(replaced=True)
        self._leaving.append(self._predecessor)
        self._predecessor = None
        self._count()
        return True

    def _refuse(self, candidate: Generation) -> None:
        candidate.listeners.close(but=self.serving.listeners)
        candidate.kill()
        self._leaving.append(candidate)
        self._candidate = None

    def stop(self, *, forced: bool) -> None:
        """Have all generations drain, or end them at once; no new connection is accepted."""
        for generation in self._all():
            generation.listeners.close()  # or new connections would wait in a queue for no worker
            if forced:
                generation.kill()
            else:
                generation.leave()

    def _count(self) -> None:
        self._collector.generation = self.serving.number
        accepting = self._predecessor or self.serving
        self._collector.workers = sum(slot.is_accepting for slot in accepting.slots)
