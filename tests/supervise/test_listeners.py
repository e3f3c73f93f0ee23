"""Listeners: what is bound, what a successor takes over, what is refused."""

from __future__ import annotations

import os
import selectors
import socket

import pytest

from tests.descriptors import held
from zerocopy.config.load import Config, load
from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector
from zerocopy.supervise.listeners import Listeners, listen_for_metrics, open_listeners
from zerocopy.supervise.reload import Generations
from zerocopy.supervise.shared_counters import SharedCounters

ENVIRON = {"ZEROCOPY_CONFIG": os.devnull, "USE_TLS": "false", "PORT": "0", "HOST": "127.0.0.1"}


def config_of(**environ: str) -> Config:
    """A configuration with a plain listener on any free port."""
    return load(environ=ENVIRON | environ)


def is_listening(listener: socket.socket) -> bool:
    """Whether clients get in."""
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def test_sockets_share_one_port_and_a_taken_one_is_refused() -> None:
    """Port 0 is chosen once for all; a port where somebody listens is the operator's error."""
    listeners = open_listeners(config_of(), 3, {})
    listeners.listen(16)
    (group,) = listeners.groups.values()
    port = group.address[1]
    assert [sock.getsockname()[1] for sock in group.sockets] == [port] * 3
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
        open_listeners(config_of(PORT=str(port)), 1, {})
    listeners.close()


def test_successor_keeps_each_socket_of_the_address() -> None:
    """More workers get more sockets, which do not listen yet; fewer take several each."""
    before = open_listeners(config_of(), 2, {})
    before.listen(16)
    old = before.groups["plain"].sockets
    more = open_listeners(config_of(), 3, {}, before)
    sockets = more.groups["plain"].sockets
    assert sockets[:2] == old
    assert not is_listening(sockets[2]), "or a client would wait for a worker that may never come"
    more.close(but=before)
    assert all(is_listening(sock) for sock in old), "a refused successor closes only its own"
    fewer = open_listeners(config_of(), 1, {}, before)
    assert fewer.groups["plain"].deal(0, 1) == [sock.fileno() for sock in old]
    before.close(but=fewer)
    assert all(is_listening(sock) for sock in old)
    fewer.close()


def test_other_address_of_the_same_port_is_bound_beside_the_old_one() -> None:
    """From loopback to every address: both are bound until the old workers drain."""
    for attempt in range(10):  # another process may have the port on another address
        before = open_listeners(config_of(), 1, {})
        before.listen(16)
        port = str(before.groups["plain"].address[1])
        try:
            after = open_listeners(config_of(PORT=port, HOST="0.0.0.0"), 1, {}, before)
            break
        except ConfigError:
            before.close()
            assert attempt < 9, "no port is free on all addresses"
    after.listen(16)
    assert after.addresses() == {"plain": f"0.0.0.0:{port}"}
    before.close(but=after)
    after.close()


def test_port_that_is_served_as_something_else_is_refused() -> None:
    """Two protocols on one port would meet each other's clients while one replaces the other."""
    before = open_listeners(config_of(), 1, {})
    before.listen(16)
    port = str(before.groups["plain"].address[1])
    with pytest.raises(ConfigError, match=rf"{port} is still served as plain"):
        open_listeners(config_of(USE_TLS="true", PORT=port), 1, {}, before)
    before.close()


def test_passed_sockets_are_dealt_to_all_and_take_the_place_of_ports() -> None:
    """Each worker gets each of them; one that the configuration knows nothing of is refused."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        listeners = open_listeners(config_of(), 2, {"plain": [passed]})
        group = listeners.groups["plain"]
        assert group.is_shared
        assert group.deal(0, 2) == group.deal(1, 2) == [passed.fileno()]
        with pytest.raises(ConfigError, match=r"named tls .* set \[tls\] port"):
            open_listeners(config_of(), 2, {"tls": [passed]})


def test_name_that_cannot_be_resolved_is_refused() -> None:
    """The line names the host, and the resolver's own words."""
    with pytest.raises(ConfigError, match=r"cannot listen on no-such\.invalid:0: \w+"):
        open_listeners(config_of(HOST="no-such.invalid"), 1, {})
    assert Listeners().addresses() == {}


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".invalid"])
def test_host_that_is_none_is_refused(host: str) -> None:
    """A name that no resolver is asked for is the operator's error in one line, no traceback."""
    with pytest.raises(ConfigError, match="this is no host name and no address") as caught:
        open_listeners(config_of(HOST=host), 1, {})
    assert caught.value.detail.isprintable()


def test_successor_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a reload: one refusal, and the sockets that serve go on."""
    rows = SharedCounters(collector := Collector(make_counters(0), 0))
    with selectors.DefaultSelector() as selector:
        generations = Generations(config_of(), {}, collector, rows, selector)
        before = held()
        monkeypatch.setattr(SharedCounters, "take", lambda *_: 1 // 0)
        with pytest.raises(ConfigError, match="cannot be served: ZeroDivisionError"):
            generations.propose(config_of(PORT="0", ZEROCOPY_SERVER_WORKERS="3"))
        assert not generations.is_changing
        assert held() - before == set()
        generations.stop(forced=True)


def test_port_of_metrics_in_use_is_the_operators_error() -> None:
    """The start stops with a line that names the address, and the option that chooses another."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match=r"127\.0\.0\.1:\d+: .* METRICS_PORT chooses another"),
    ):
        listen_for_metrics(Collector(make_counters(0), 0), *taken.getsockname(), resolve_s=10)


@pytest.mark.parametrize("host", ["no-such.invalid", "a..b"])
def test_host_of_metrics_that_is_none_is_the_operators_error(host: str) -> None:
    """In one line, whether a resolver was asked or not."""
    with pytest.raises(ConfigError, match=rf"\[metrics\] {host}:0: \w+"):
        listen_for_metrics(Collector(make_counters(0), 0), host, 0, resolve_s=10)
