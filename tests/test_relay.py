"""`Relay`: what the tests of partitions rest upon."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from contextlib import closing

import pytest

from tests.faults.client import poll
from tests.relay import Relay


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the peer's kernel has not said to have (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])


def test_bytes_pass_until_it_is_silent_and_again_when_it_is_healed() -> None:
    """Muted, they are acknowledged and wait; lost, they are not even that. The end passes, too."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        Relay(listener.getsockname()[1]) as relay,
        closing(socket.create_connection(("127.0.0.1", relay.port), 20)) as client,
    ):
        far, _ = listener.accept()
        with closing(far):
            far.settimeout(20)
            for silence, is_acknowledged in ((relay.mute, True), (relay.lose, False)):
                client.sendall(b"one")
                assert far.recv(10) == b"one"
                poll(lambda: not unacknowledged(client), "an acknowledgement")
                silence()
                client.sendall(b"two")
                if is_acknowledged:
                    poll(lambda: not unacknowledged(client), "an acknowledgement")
                assert unacknowledged(client) == (0 if is_acknowledged else 3)
                assert not select.select([far], [], [], 0)[0]
                relay.heal()
                assert far.recv(10) == b"two"
            far.sendall(b"three")
            assert client.recv(10) == b"three"
            client.shutdown(socket.SHUT_WR)
            assert far.recv(10) == b""


def test_peer_that_is_not_there_breaks_the_connection() -> None:
    """As a refused one does, before or after it has begun."""
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else gets the port
        with (
            Relay(deaf.getsockname()[1]) as relay,
            pytest.raises(ConnectionResetError),
            closing(socket.create_connection(("127.0.0.1", relay.port), 20)) as client,
        ):
            client.recv(1)
