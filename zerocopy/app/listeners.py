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

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zerocopy.config import Config


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
    """All sockets of one generation, by what is spoken on them: `plain` and `tls`."""

    groups: Mapping[str, Group] = field(default_factory=dict)

    def addresses(self) -> dict[str, str]:
        """`host:port` by protocol."""
        found = {name: group.address for name, group in self.groups.items()}
        return {name: f"{host}:{port}" for name, (host, port) in found.items()}

    def listen(self, backlog: int) -> None:
        """Let clients in; a socket that listens already only gets its new backlog.

        Raises:
            ConfigError: somebody else has begun to listen on a port since it was bound.
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


def open_listeners(
    config: Config,
    count: int,
    passed: Mapping[str, list[socket.socket]],
    before: Listeners | None = None,
) -> Listeners:
    """The sockets of `config` for `count` workers; bound, and not listening if they are new.

    Those of `before` are used again where they are on the same address.

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
    try:
        for name in ("tls", "plain"):
            port = ports[f"{name}_port"]
            if port is None or name in groups:
                continue
            where = (config.server.host, port)
            known = old.groups.get(name)
            if known is not None and known.where == where:
                groups[name] = Group(where, list(known.sockets))
                _bind(groups[name], *known.address, count)
            else:
                groups[name] = Group(where, [])
                taken = {} if before is None else _ports_of(before)
                if taken.get(port, name) != name:
                    raise ConfigError(
                        f"{where[0]}:{port} is still served as {taken[port]}; restart to swap them"
                    )
                if port not in taken:
                    _check_free(*where)
                _bind(groups[name], *where, count)
    except BaseException:
        Listeners(groups).close(but=before)
        raise
    return Listeners(groups)


def _ports_of(listeners: Listeners) -> dict[int, str]:
    return {group.address[1]: name for name, group in listeners.groups.items()}


def _check_free(host: str, port: int) -> None:
    """Refuse a port where another process listens, which SO_REUSEPORT alone would let pass."""
    family, address = _resolve(host, port)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _refusal(host, port, error) from error


def _bind(group: Group, host: str, port: int, count: int) -> None:
    """Bring a group to `count` sockets; of port 0 the others join the port that the first got."""
    family, address = _resolve(host, port)
    try:
        while len(group.sockets) < count:
            listener = socket.socket(family, socket.SOCK_STREAM)
            group.sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            address = listener.getsockname()
    except OSError as error:
        raise _refusal(host, port, error) from error


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:  # such as UnicodeError: a label of a name is too long
        raise _refusal(host, port, error) from error
    return family, address


def _refusal(host: str, port: int, error: OSError | ValueError) -> ConfigError:
    """Keep it to one line, whatever the host holds."""
    if isinstance(error, ValueError):
        why: str | None = "this is no host name and no address"
    else:
        # getaddrinfo(3) has errors of its own, below zero, and their words with them.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    message = f"cannot listen on {host}:{port}: {why}"
    return ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
