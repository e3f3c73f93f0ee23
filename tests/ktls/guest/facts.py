"""What Python, OpenSSL and the kernel do together with kernel TLS: one line of JSON a fact.

`python -m tests.ktls -m tests.ktls.guest.facts [NAME …]` prints them. Each fact is a function of
this module; its name is the fact's, and its first line the question.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import tempfile
import termios
import time
import traceback
from typing import TYPE_CHECKING, Any

from tests.ktls.guest.tlspair import (
    SOL_TLS,
    TLS_TX_ZEROCOPY_RO,
    Kind,
    Pair,
    kernel_state,
    libssl,
    openssl_handle,
    openssl_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_BYTES = 6_000_007
"""Odd, and more than loopback's buffers take at once."""

KINDS = [
    Kind("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    Kind("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    Kind("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    Kind("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    Kind("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    Kind("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
]
SMALL_BUFFER = 64 << 10


def sample_file() -> tuple[int, bytes]:
    """A descriptor of a file that repeats nowhere soon, and its bytes."""
    seed = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(4096))
    content = (seed * (FILE_BYTES // len(seed) + 1))[:FILE_BYTES]
    fd = os.memfd_create("sample")
    os.write(fd, content)
    return fd, content


FD, CONTENT = sample_file()


def send_file(pair: Pair, offset: int, count: int) -> list[int]:
    """sendfile(2) until all is sent; how many bytes each call took, 0 for EAGAIN."""
    taken = []
    while count:
        try:
            taken.append(os.sendfile(pair.server.fileno(), FD, offset, count))
        except BlockingIOError:
            taken.append(0)
            assert select.select([], [pair.server], [], 20)[1], "never writable again"
        offset, count = offset + taken[-1], count - taken[-1]
    return taken


def end_of(pair: Pair) -> str:
    """Send close_notify, and wait for the client's."""
    try:
        pair.until_done(pair.server.unwrap)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return "both close_notify"


def brief(taken: list[int]) -> dict[str, Any]:
    """Of many calls: how many, how many would have blocked, the sizes of the first."""
    return {"calls": len(taken), "EAGAIN": taken.count(0), "first": taken[:4]}


def versions() -> Any:
    """What is this machine?"""
    with open("/proc/sys/net/ipv4/tcp_available_ulp", encoding="ascii") as file:
        ulp = file.read().split()
    return {
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        "OP_ENABLE_KTLS": hasattr(ssl, "OP_ENABLE_KTLS"),
        "kernel": os.uname().release,
        "tcp_available_ulp": ulp,
    }


def detection() -> Any:
    """For which versions and ciphers is there kernel TLS, as the kernel and OpenSSL say it?"""
    found = {}
    for kind in [*KINDS, Kind(ktls=False)]:
        with Pair(kind) as pair:
            name = f"{pair.server.version()} {pair.server.cipher()[0]}"  # type: ignore[index]
            state = {**kernel_state(pair.server), **openssl_state(pair.server)}
            found[name + ("" if kind.ktls else " without OP_ENABLE_KTLS")] = state
    return found


def sendfile() -> Any:
    """Does a client read a whole file's bytes, sent by sendfile(2) in one or more calls?"""
    found = {}
    for kind in KINDS:
        with Pair(kind) as pair:
            reading = pair.start(pair.client.read_to_end)
            taken = send_file(pair, 0, FILE_BYTES)
            end = end_of(pair)
            equal = reading.result(60) == CONTENT
            found[f"{kind.version} {kind.cipher}"] = {"equal": equal, "end": end, **brief(taken)}
    return found


def partial_sends() -> Any:
    """The same while the client reads nothing until the socket is full, from odd offsets."""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        taken = []
        offset = 12_345
        while True:  # until nothing fits any more
            try:
                taken.append(os.sendfile(pair.server.fileno(), FD, offset, FILE_BYTES - offset))
            except BlockingIOError:
                break
            offset += taken[-1]
        full_at = offset
        writable = bool(select.select([], [pair.server], [], 0)[1])
        reading = pair.start(pair.client.read_to_end)
        more = send_file(pair, offset, FILE_BYTES - offset)
        end = end_of(pair)
        return {
            "equal": reading.result(60) == CONTENT[12_345:],
            "end": end,
            "took until full": taken,
            "full after": full_at - 12_345,
            "writable when full": writable,
            "afterwards": brief(more),
            "records of full size": sum(1 for _, size in pair.client.records if size > 16_384),
            "records": len(pair.client.records),
        }


def stopped_half_way() -> Any:
    """After EAGAIN and no further call: does the client get every byte that was counted as sent?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        sent = 0
        while True:
            try:
                sent += os.sendfile(pair.server.fileno(), FD, sent, FILE_BYTES - sent)
            except BlockingIOError:
                break
        reading = pair.start(pair.client.read, sent)
        try:
            equal = reading.result(5) == CONTENT[:sent]
        except TimeoutError:
            pair.server.write(b"!")
            equal = reading.result(5) == CONTENT[:sent]
            return {"sent": sent, "arrived": "only with the next write", "equal": equal}
        return {"sent": sent, "arrived": "at once", "equal": equal}


def mixed() -> Any:
    """Is the order kept between SSLSocket.write and sendfile(2), with a full socket between?"""
    found = {}
    for kind in (
        Kind(send_buffer=SMALL_BUFFER),
        Kind("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", send_buffer=SMALL_BUFFER),
    ):
        with Pair(kind) as pair:
            expected = []
            reading = None
            for turn, (offset, count) in enumerate([(0, 5), (7, 100_000), (3, 3_000_000), (1, 1)]):
                head = b"HTTP/1.1 200 OK %d\r\n\r\n" % turn + bytes(turn * 60_000)
                expected += [head, CONTENT[offset : offset + count]]
                if turn == 2:  # the head waits for room as well
                    reading = pair.start(pair.client.read_to_end)
                pair.write_all(head)
                send_file(pair, offset, count)
            assert reading is not None
            end = end_of(pair)
            found[kind.version] = {"equal": reading.result(60) == b"".join(expected), "end": end}
    return found


def big_write() -> Any:
    """How much of 256 KiB does SSLSocket.write take, and what is SSLWantWriteError's retry?"""
    found = {}
    piece = memoryview(CONTENT)[: 256 << 10]
    for ktls in (False, True):
        with Pair(Kind(ktls=ktls, send_buffer=SMALL_BUFFER)) as pair:
            taken: list[int] = []
            try:
                while True:
                    taken.append(pair.server.write(piece[sum(taken) % len(piece) :]))
            except ssl.SSLWantWriteError as error:
                said = type(error).__name__
            before = sum(taken)
            reading = pair.start(pair.client.read_to_end)
            again = pair.write_all(bytes(piece[before % len(piece) :]))  # another buffer, same bytes
            # Afterwards another write and a file: nothing is doubled and nothing is lost.
            pair.write_all(b"end")
            end = end_of(pair)
            data = reading.result(60)
            expected = bytes(piece) * (before // len(piece) + 1) + b"end"
            found["ktls" if ktls else "user space"] = {
                "taken": sorted(set(taken)), "calls until full": len(taken), "full": said,
                "again": sorted(set(again)), "equal": data == expected, "end": end,
            }  # fmt: skip
    return found


def shorter_retry() -> Any:
    """After SSLWantWriteError, may other bytes be sent in place of those refused?"""
    found = {}
    for ktls in (False, True):
        with Pair(Kind(ktls=ktls, send_buffer=SMALL_BUFFER)) as pair:
            try:
                while True:
                    pair.server.write(bytes(20_000))
            except ssl.SSLWantWriteError:
                pass
            reading = pair.start(pair.client.read_to_end)
            try:
                pair.until_done(pair.server.write, b"other")
                said = "taken"
            except ssl.SSLError as error:
                said = str(error.reason)
            finally:
                pair.server.close()
            try:
                found["ktls" if ktls else "user space"] = said, len(reading.result(20))
            except OSError as error:
                found["ktls" if ktls else "user space"] = said, type(error).__name__
    return found


def want_write_then_sendfile() -> Any:
    """After SSLWantWriteError, may sendfile(2) come before the retry? Where does the file land?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        try:
            pair.server.write(b"w" * (1 << 20))
            said = "taken"
        except ssl.SSLWantWriteError as error:
            said = type(error).__name__
        reading = pair.start(pair.client.read_to_end)
        send_file(pair, 0, 50_000)
        pair.write_all(b"w" * (1 << 20))
        end = end_of(pair)
        data = reading.result(20)
        return {
            "write of 1 MiB": said,
            "end": end,
            "bytes": len(data) - (1 << 20),
            "file's 50,000 bytes are after": data.find(CONTENT[:50_000]),
        }


def raw_send() -> Any:
    """Does send(2) with MSG_MORE join a head with the file's first record? How many records?"""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    found = {}
    for name, send in {
        "SSLSocket.write": lambda pair: pair.write_all(head),
        "send MSG_MORE": lambda pair: socket.socket.send(pair.server, head, socket.MSG_MORE),
        "sendmsg MSG_MORE": lambda pair: socket.socket.sendmsg(
            pair.server, [head[:5], head[5:]], (), socket.MSG_MORE
        ),
    }.items():
        with Pair(Kind()) as pair:
            reading = pair.start(pair.client.read_to_end)
            before = len(pair.client.records)
            send(pair)
            quiet = pair.client.sees_nothing()
            send_file(pair, 0, 40_000)
            end = end_of(pair)
            equal = reading.result(20) == head + CONTENT[:40_000]
            records = [size for _, size in pair.client.records[before:]]
            found[name] = {"equal": equal, "held back": quiet, "records": records, "end": end}
    with Pair(Kind()) as pair:  # one large send(2): the kernel cuts it into records
        reading = pair.start(pair.client.read_to_end)
        taken = socket.socket.send(pair.server, CONTENT[: 256 << 10])
        rest = pair.write_all(CONTENT[taken : 256 << 10])
        end = end_of(pair)
        equal = reading.result(20) == CONTENT[: 256 << 10]
        found["send of 256 KiB"] = {"equal": equal, "taken": taken, "rest": rest, "end": end}
    with Pair(Kind()) as pair:  # MSG_MORE and then OpenSSL: is the order kept?
        reading = pair.start(pair.client.read_to_end)
        socket.socket.send(pair.server, head, socket.MSG_MORE)
        pair.write_all(b"by OpenSSL")
        socket.socket.send(pair.server, b"last", socket.MSG_MORE)
        end = end_of(pair)
        equal = reading.result(20) == head + b"by OpenSSL" + b"last"
        found["MSG_MORE, then write, MSG_MORE, then close_notify"] = {"equal": equal, "end": end}
    return found


def key_update() -> Any:
    """What happens when the client asks for new keys (RFC 8446 section 4.6.3) amid a transfer?"""
    found = {}
    for ktls in (False, True):
        for name, asks in (("client's own", 0), ("update_requested", 1)):
            with Pair(Kind(ktls=ktls)) as pair:
                reading = pair.start(pair.client.read, 10_000)
                pair.write_all(CONTENT[:10_000])
                steps = {"before": reading.result(20) == CONTENT[:10_000]}
                steps["SSL_key_update"] = libssl.SSL_key_update(openssl_handle(pair.client.tls), asks)
                pair.client.write(b"GET")
                steps["server"] = attempt(lambda p=pair: p.until_done(p.server.read, 100).decode())
                reading = pair.start(pair.client.read, 10_000)
                steps["write"] = attempt(lambda p=pair: p.write_all(CONTENT[:10_000]))
                steps["client"] = attempt(lambda r=reading: r.result(3) == CONTENT[:10_000])
                if ktls and steps["client"] is True:
                    reading = pair.start(pair.client.read, 30_000)
                    steps["sendfile"] = attempt(lambda p=pair: send_file(p, 0, 30_000))
                    steps["client's file"] = attempt(
                        lambda r=reading: r.result(3) == CONTENT[:30_000]
                    )
                steps["after"] = kernel_state(pair.server)["TLS_TX"]
                pair.server.close()
                found[f"{'ktls' if ktls else 'user space'}, {name}"] = steps
    return found


def server_key_update() -> Any:
    """May the server itself change its keys under kernel TLS?"""
    with Pair(Kind()) as pair:
        called = libssl.SSL_key_update(openssl_handle(pair.server), 0)
        reading = pair.start(pair.client.read, 5)
        wrote = attempt(lambda: pair.until_done(pair.server.write, b"12345"))
        found = {"SSL_key_update": called, "write": wrote}
        found["client"] = attempt(lambda: reading.result(3) == b"12345")
        pair.server.close()
        return found


def tickets() -> Any:
    """Do session tickets come before, and in between, and is a session resumed with kernel TLS?"""
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read, 30_000)
        send_file(pair, 0, 30_000)
        equal = reading.result(20) == CONTENT[:30_000]
        had = pair.client.tls.session is not None and pair.client.tls.session.has_ticket
        asked = libssl.SSL_new_session_ticket(openssl_handle(pair.server))
        reading = pair.start(pair.client.read_to_end)
        before = len(pair.client.records)
        pair.write_all(b"after")  # a ticket asked for leaves with the next write
        send_file(pair, 0, 30_000)
        end = end_of(pair)
        rest = reading.result(20) == b"after" + CONTENT[:30_000]
        return {
            "equal": equal, "has ticket": had, "SSL_new_session_ticket": asked, "rest": rest,
            "records afterwards": [size for _, size in pair.client.records[before:]], "end": end,
        }  # fmt: skip


def endings() -> Any:
    """Does unwrap end a sendfile's stream, and what does a close without it look like?"""
    found = {}
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        send_file(pair, 0, 30_000)
        pair.server.close()
        found["close"] = attempt(lambda: len(reading.result(20)))
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        send_file(pair, 0, 30_000)
        pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.server.close()
        found["reset"] = attempt(lambda: len(reading.result(20)))
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        send_file(pair, 0, 30_000)
        libssl.SSL_shutdown(openssl_handle(pair.server))  # close_notify alone
        found["close_notify"] = attempt(lambda: len(reading.result(20)))
        found["sendfile after close_notify"] = attempt(lambda: send_file(pair, 0, 10))
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        send_file(pair, 0, 30_000)
        pair.server.shutdown(socket.SHUT_WR)  # SSLSocket.shutdown forgets TLS: no close_notify
        found["SSLSocket.shutdown"] = attempt(lambda: len(reading.result(20)))
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        try:
            while True:
                send_file_once(pair)
        except BlockingIOError:
            pass
        found["unwrap of a full socket"] = attempt(pair.server.unwrap)
        reading = pair.start(pair.client.read_to_end)
        found["and later"] = attempt(lambda: pair.until_done(pair.server.unwrap) and "ended")
        found["client"] = attempt(lambda: len(reading.result(20)))
    return found


def send_file_once(pair: Pair) -> int:
    """One call."""
    return os.sendfile(pair.server.fileno(), FD, 0, 100_000)


def truncated() -> Any:
    """What does sendfile(2) return at the end of a file, and does what it sent arrive?"""
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read, 1000)
        first = os.sendfile(pair.server.fileno(), FD, FILE_BYTES - 1000, 50_000)
        second = os.sendfile(pair.server.fileno(), FD, FILE_BYTES, 50_000)
        try:
            arrived = reading.result(1) == CONTENT[-1000:]
        except TimeoutError:
            pair.write_all(b"!")
            arrived = f"only with the next write: {reading.result(5) == CONTENT[-1000:]}"
        return {"first": first, "second": second, "arrived": arrived}


def half_received() -> Any:
    """SIOCOUTQ, what the peer has not acknowledged: of the encrypted bytes?"""
    with Pair(Kind()) as pair:
        sent = os.sendfile(pair.server.fileno(), FD, 0, 100_000)
        time.sleep(0.1)
        queued = struct.unpack("i", fcntl.ioctl(pair.server, termios.TIOCOUTQ, bytes(4)))[0]
        return {"sent": sent, "SIOCOUTQ after 0.1 s": queued}


def zerocopy_option() -> Any:
    """Can TLS_TX_ZEROCOPY_RO be set, and what does it do without a network card that encrypts?"""
    with Pair(Kind()) as pair:
        said = attempt(lambda: pair.server.setsockopt(SOL_TLS, TLS_TX_ZEROCOPY_RO, 1))
        now = attempt(lambda: pair.server.getsockopt(SOL_TLS, TLS_TX_ZEROCOPY_RO))
        reading = pair.start(pair.client.read, 30_000)
        send_file(pair, 0, 30_000)
        equal = reading.result(20) == CONTENT[:30_000]
        return {"setsockopt": said, "getsockopt": now, "equal": equal}


def counters() -> Any:
    """What does the kernel count (Documentation/networking/tls.rst, "Statistics")?"""
    with Pair(Kind()), open("/proc/net/tls_stat", encoding="ascii") as file:
        return dict(line.split() for line in file)


def requests() -> Any:
    """Does the server read requests as ever, many on one connection, both ways at once?"""
    found = {}
    for kind in KINDS:
        with Pair(kind) as pair:
            is_equal = True
            for turn in range(20):
                request = b"GET /%d" % turn + bytes(turn * 1000)
                pair.client.write(request)
                got = b""
                while len(got) < len(request):
                    got += pair.until_done(pair.server.read, 1 << 16)
                reading = pair.start(pair.client.read, 30_003)
                pair.write_all(b"abc")
                send_file(pair, turn, 30_000)
                expected = b"abc" + CONTENT[turn : turn + 30_000]
                is_equal = is_equal and got == request and reading.result(20) == expected
            ending = pair.start(pair.client.read_to_end)
            found[f"{kind.version} {kind.cipher}"] = is_equal, end_of(pair), len(ending.result(20))
    return found


def attempt(call: Callable[[], Any]) -> Any:
    """What it returns, or the error's name and text."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # the error is the fact
        return f"{type(error).__name__}: {error}"


FACTS: list[Callable[[], Any]] = [
    versions, detection, sendfile, partial_sends, stopped_half_way, mixed, big_write, shorter_retry,
    want_write_then_sendfile, raw_send, key_update, server_key_update, tickets, endings, truncated,
    half_received, zerocopy_option, requests, counters,
]  # fmt: skip


if __name__ == "__main__":
    asked = sys.argv[1:]
    for fact in FACTS:
        if not asked or fact.__name__ in asked:
            try:
                found = fact()
            except Exception as error:  # noqa: BLE001  # the others are still to be known
                traceback.print_exc()
                found = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps({fact.__name__: found}), flush=True)
