"""Facts of a connection: how kernel TLS is seen, new keys, session tickets, endings, requests."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from tests.ktls.guest.tlspair import (
    CONTENT,
    KINDS,
    SOL_TLS,
    TLS_TX_ZEROCOPY_RO,
    WAIT_S,
    Kind,
    Pair,
    attempt,
    kernel_state,
    libssl,
    openssl_handle,
    openssl_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL_BUFFER = 64 << 10
REQUESTS = 20


def detection() -> Any:
    """For which versions and ciphers is there kernel TLS, as the kernel and OpenSSL say it?"""
    found = {}
    for kind in [*KINDS, Kind(ktls=False)]:
        with Pair(kind) as pair:
            cipher = pair.server.cipher()
            assert cipher is not None
            name = f"{pair.server.version()} {cipher[0]}"
            state = {**kernel_state(pair.server), **openssl_state(pair.server)}
            found[name + ("" if kind.ktls else " without OP_ENABLE_KTLS")] = state
    return found


def requests() -> Any:
    """Does the server read as ever: many requests on one connection, some of several records?"""
    found = {}
    for kind in KINDS:
        with Pair(kind) as pair:
            is_equal = True
            for turn in range(REQUESTS):
                request = b"GET /%d" % turn + bytes(turn * 1000)
                pair.client.write(request)
                got = b""
                while len(got) < len(request):
                    got += pair.until_done(pair.server.read, 1 << 16)
                reading = pair.start(pair.client.read, 30_003)
                pair.write_all(b"abc")
                pair.send_file(turn, 30_000)
                expected = b"abc" + CONTENT[turn : turn + 30_000]
                is_equal &= got == request and reading.result(WAIT_S) == expected
            ending = pair.start(pair.client.read_to_end)
            end = pair.end()
            rest = len(ending.result(WAIT_S))
            found[f"{kind.version} {kind.cipher}"] = {"equal": is_equal, "end": end, "rest": rest}
    return found


def key_update() -> Any:
    """What happens when the client takes new keys, and asks for some (RFC 8446 section 4.6.3)?"""
    return {
        f"{'ktls' if ktls else 'user space'}, {name}": _new_keys(asks, ktls=ktls)
        for ktls in (False, True)
        for name, asks in (("client's alone", 0), ("update_requested", 1))
    }


def _new_keys(asks: int, *, ktls: bool) -> dict[str, Any]:
    with Pair(Kind(ktls=ktls)) as pair:
        reading = pair.start(pair.client.read, 10_000)
        pair.write_all(CONTENT[:10_000])
        steps: dict[str, Any] = {"before": reading.result(WAIT_S) == CONTENT[:10_000]}
        steps["called"] = libssl.SSL_key_update(openssl_handle(pair.client.tls), asks)
        pair.client.write(b"GET")
        steps["server reads"] = attempt(lambda: pair.until_done(pair.server.read, 9).decode())
        reading = pair.start(pair.client.read, 20_000)
        steps["server writes"] = attempt(pair.write_all, CONTENT[:10_000])
        if ktls:
            steps["server sends"] = attempt(pair.send_file, 10_000, 10_000)
        else:
            steps["server sends"] = attempt(pair.write_all, CONTENT[10_000:20_000])
        steps["client reads"] = attempt(lambda: reading.result(WAIT_S) == CONTENT[:20_000])
        steps["kernel says"] = kernel_state(pair.server)["TLS_TX"]
        pair.server.close()
        return steps


def server_key_update() -> Any:
    """May the server itself take new keys?"""
    with Pair(Kind()) as pair:
        called = libssl.SSL_key_update(openssl_handle(pair.server), 0)
        reading = pair.start(pair.client.read, 5)
        wrote = attempt(pair.until_done, pair.server.write, b"12345")
        found = {"called": called, "server writes": wrote}
        found["client reads"] = attempt(lambda: reading.result(WAIT_S) == b"12345")
        pair.server.close()
        return found


def tickets() -> Any:
    """Are session tickets sent before, and after, a file?"""
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read, 30_000)
        pair.send_file(0, 30_000)
        equal = reading.result(WAIT_S) == CONTENT[:30_000]
        session = pair.client.tls.session
        had = session is not None and session.has_ticket
        called = libssl.SSL_new_session_ticket(openssl_handle(pair.server))
        before = len(pair.client.records)
        reading = pair.start(pair.client.read_to_end)
        pair.write_all(b"after")  # the ticket leaves with the next write
        pair.send_file(0, 30_000)
        end = pair.end()
        return {
            "equal": equal,
            "had a ticket": had,
            "called": called,
            "rest": reading.result(WAIT_S) == b"after" + CONTENT[:30_000],
            "records": pair.client.sizes()[before:],
            "end": end,
        }


def endings() -> Any:
    """What does a client see of each way to end, after a file?"""
    ways: dict[str, Callable[[Pair], object]] = {
        "close": lambda _: None,
        "reset": lambda pair: pair.server.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        ),
        "close_notify": lambda pair: libssl.SSL_shutdown(openssl_handle(pair.server)),
        "SSLSocket.shutdown": lambda pair: pair.server.shutdown(socket.SHUT_WR),
    }
    found = {}
    for name, end in ways.items():
        with Pair(Kind()) as pair:
            pair.send_file(0, 30_000)
            end(pair)
            if name == "close_notify":
                found["sendfile after it"] = attempt(pair.send_file, 0, 10)
            pair.server.close()
            found[name] = attempt(pair.client.read_to_end)
    return found


def end_of_a_full_socket() -> Any:
    """Does unwrap wait for room, and work later?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        sent = sum(pair.fill_by_file())
        first = attempt(pair.server.unwrap)
        reading = pair.start(pair.client.read_to_end)
        end = pair.end()
        equal = reading.result(WAIT_S) == CONTENT[:sent]
        return {"first": first, "later": end, "equal": equal}


def zerocopy_option() -> Any:
    """Can TLS_TX_ZEROCOPY_RO be set where no network card encrypts?"""
    with Pair(Kind()) as pair:
        said = attempt(pair.server.setsockopt, SOL_TLS, TLS_TX_ZEROCOPY_RO, 1)
        now = attempt(pair.server.getsockopt, SOL_TLS, TLS_TX_ZEROCOPY_RO)
        reading = pair.start(pair.client.read, 30_000)
        pair.send_file(0, 30_000)
        equal = reading.result(WAIT_S) == CONTENT[:30_000]
        return {"setsockopt": said, "getsockopt": now, "equal": equal}


def counters() -> Any:
    """What does the kernel count (Documentation/networking/tls.rst, "Statistics")?"""
    with Pair(Kind()), open("/proc/net/tls_stat", encoding="ascii") as file:
        return {name: int(count) for name, count in map(str.split, file)}


FACTS: list[Callable[[], Any]] = [
    detection, requests, key_update, server_key_update, tickets, endings, end_of_a_full_socket,
    zerocopy_option, counters,
]  # fmt: skip
