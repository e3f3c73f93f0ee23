"""The listening sockets of a configuration, and what stays of them under the next one.

Owns how addresses are bound and how sockets are dealt to workers. Each worker has a socket of its
own on the shared port (SO_REUSEPORT), and the supervisor keeps them all, so what waits in the queue
of a worker that died, or of a generation that goes, is served by its successor.

A socket that listens is never closed while its address is served: what waits in its queue would be
reset. When there are fewer workers than before, some therefore take two queues; a restart evens it
out. Sockets that systemd has opened are shared by all workers: they belong to another user, and the
kernel lets nobody else join their port.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError
from zerocopy.observe.metrics import serve_metrics
from zerocopy.supervise.resolve import Address, cause_of, on_one_line, resolve, resolve_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zerocopy.config.load import Config
    from zerocopy.observe.metrics import Collector


@dataclass(frozen=True, slots=True)
class Group:
    """The sockets of one protocol; `where` is what the configuration says, None if passed."""

    where: tuple[str, int] | None
    sockets: list[socket.socket]

    @property
    def is_shared(self) -> bool:
        """Whether all workers accept from the same sockets."""
        return self.where is None

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""
        host, port = self.sockets[0].getsockname()[:2]
        return host, port

    def deal(self, place: int, places: int) -> list[int]:
        """The descriptors of one of `places` workers; each socket has at least one of them."""
        sockets = self.sockets if self.is_shared else self.sockets[place::places]
        return [listener.fileno() for listener in sockets]


@dataclass(frozen=True, slots=True)
class Listeners:
    """All sockets of one generation, by protocol: `plain` and `tls`."""

    groups: Mapping[str, Group] = field(default_factory=dict)

    def addresses(self) -> dict[str, str]:
        """`host:port` by protocol."""
        found = {name: group.address for name, group in self.groups.items()}
        return {name: f"{host}:{port}" for name, (host, port) in found.items()}

    def has(self, name: str, where: tuple[str, int]) -> bool:
        """Whether a protocol is on the address that the configuration calls `where`."""
        group = self.groups.get(name)
        return group is not None and group.where == where

    def listen(self, backlog: int) -> None:
        """Listen; a socket that listens already only gets its new backlog.

        Raises:
            ConfigError: another process has begun to listen on a port since it was bound.
        """
        for group in self.groups.values():
            try:
                for listener in group.sockets if not group.is_shared else ():
                    listener.listen(backlog)
            except OSError as error:
                raise _refusal(*group.address, error) from error

    def close(self, *, but: Listeners | None = None) -> None:
        """Close all sockets, but those of a successor or a predecessor."""
        kept = set() if but is None else set(but._all())  # noqa: SLF001 - another of this class
        for listener in self._all():
            if listener not in kept:
                listener.close()

    def _all(self) -> Iterator[socket.socket]:
        for group in self.groups.values():
            yield from group.sockets


def resolve_host(
    config: Config,
    passed: Mapping[str, list[socket.socket]],
    before: Listeners | None = None,
    *,
    how: Callable[[str], Address] = resolve,
) -> Address | None:
    """The address of `[server] host`; None where `open_listeners` has no use for it. Blocks.

    Raises:
        ConfigError: it has none.
    """
    for name, where in _wanted(config, passed):
        if before is None or not before.has(name, where):
            try:
                return how(where[0])
            except (OSError, ValueError) as error:
                raise _refusal(*where, error) from error
    return None


def open_listeners(
    config: Config,
    count: int,
    passed: Mapping[str, list[socket.socket]],
    before: Listeners | None = None,
    *,
    host: Address | None = None,
) -> Listeners:
    """The sockets of `config` for `count` workers; bound, and not listening if they are new.

    Those of `before` are used again where they are on the same address. `host` is what
    `resolve_host` has found; without it that is asked here, and blocks.

    Raises:
        ConfigError: an address cannot be bound, or systemd has passed a socket of no use.
    """
    ports = config.listeners()._asdict()
    groups: dict[str, Group] = {}
    old = before or Listeners()
    for name, sockets in passed.items():
        if ports[f"{name}_port"] is None:
            raise ConfigError(
                f"socket activation: a socket named {name} was passed, and the configuration "
                f"opens no such listener; set [{name}] port"
            )
        groups[name] = Group(None, sockets)
    host = host or resolve_host(config, passed, before)
    try:
        for name, where in _wanted(config, passed):
            if old.has(name, where):
                known = old.groups[name]
                groups[name] = Group(where, list(known.sockets))
                first = known.sockets[0]
                address = Address(first.family, first.getsockname())
                _bind(groups[name], known.address, address, count)
            else:
                assert host is not None, "resolved where something is bound anew"
                groups[name] = Group(where, [])
                taken = {} if before is None else _ports_of(before)
                if taken.get(where[1], name) != name:
                    raise ConfigError(
                        f"{where[0]}:{where[1]} is still served as {taken[where[1]]}; "
                        "restart to swap them"
                    )
                if where[1] not in taken:
                    _check_free(where, host)
                _bind(groups[name], where, host, count)
    except BaseException:
        Listeners(groups).close(but=before)
        raise
    return Listeners(groups)


def _wanted(
    config: Config, passed: Mapping[str, list[socket.socket]]
) -> Iterator[tuple[str, tuple[str, int]]]:
    """The listeners that are not passed, and where the configuration has them."""
    ports = config.listeners()._asdict()
    for name in ("tls", "plain"):
        port = ports[f"{name}_port"]
        if port is not None and name not in passed:
            yield name, (config.server.host, port)


def _ports_of(listeners: Listeners) -> dict[int, str]:
    return {group.address[1]: name for name, group in listeners.groups.items()}


def _check_free(where: tuple[str, int], address: Address) -> None:
    """Refuse a port where another process listens, which SO_REUSEPORT alone would let pass."""
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address.at(where[1]))
    except OSError as error:
        raise _refusal(*where, error) from error


def _bind(group: Group, where: tuple[str, int], address: Address, count: int) -> None:
    """Bring a group to `count` sockets; of port 0 the others join the port that the first got."""
    sockaddr = address.at(where[1])
    try:
        while len(group.sockets) < count:
            listener = socket.socket(address.family, socket.SOCK_STREAM)
            group.sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(sockaddr)
            sockaddr = listener.getsockname()
    except OSError as error:
        raise _refusal(*where, error) from error


def _refusal(host: str, port: int, error: OSError | ValueError) -> ConfigError:
    """Keep it to one line, whatever the host holds."""
    return ConfigError(on_one_line(f"cannot listen on {host}:{port}: {cause_of(error)}"))


def listen_for_metrics(collector: Collector, host: str, port: int, *, resolve_s: float) -> int:
    """Serve `collector` at /metrics of `host`; the port it listens on.

    Raises:
        ConfigError: the host has no address within `resolve_s`, or it cannot be bound.
    """
    try:
        address = resolve_within(host, resolve_s)
        return serve_metrics(collector, address.family, address.at(port))
    except (OSError, ValueError) as error:
        cause = cause_of(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            cause += "; METRICS_PORT chooses another port, 0 any free one"
        raise ConfigError(on_one_line(f"[metrics] {host}:{port}: {cause}")) from error
