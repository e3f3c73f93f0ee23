"""Facts of sending: sendfile(2), SSLSocket.write and send(2) by turns, and full sockets."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Any

from tests.ktls.guest.tlspair import (
    CONTENT,
    FD,
    FILE_BYTES,
    KINDS,
    WAIT_S,
    Kind,
    Pair,
    attempt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL_BUFFER = 64 << 10
PIECE_BYTES = 256 << 10
MEBIBYTE = 1 << 20


def whole_file() -> Any:
    """What does a client read of a file that leaves by sendfile(2) in one or more calls?"""
    found = {}
    for kind in KINDS:
        with Pair(kind) as pair:
            reading = pair.start(pair.client.read_to_end)
            taken = pair.send_file(0, FILE_BYTES)
            end = pair.end()
            equal = reading.result(WAIT_S) == CONTENT
            found[f"{kind.version} {kind.cipher}"] = {"equal": equal, "end": end, **_brief(taken)}
    return found


def partial_sends() -> Any:
    """The same while the client reads nothing until the socket is full, from an odd offset."""
    start = 12_345
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        taken = pair.fill_by_file(start)
        is_writable = pair.is_writable()
        reading = pair.start(pair.client.read_to_end)
        more = pair.send_file(start + sum(taken), FILE_BYTES - start - sum(taken))
        end = pair.end()
        return {
            "equal": reading.result(WAIT_S) == CONTENT[start:],
            "end": end,
            "taken until full": taken,
            "writable when full": is_writable,
            "afterwards": _brief(more),
            "records": len(pair.client.records),
            "of full size": sum(1 for _, size in pair.client.records if size > 16_384),
        }


def stopped_half_way() -> Any:
    """After EAGAIN and no further call, does all arrive that was counted as sent?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        sent = sum(pair.fill_by_file())
        equal = pair.start(pair.client.read, sent).result(WAIT_S) == CONTENT[:sent]
        return {"sent": sent, "equal": equal}


def mixed() -> Any:
    """Is the order of SSLSocket.write and sendfile(2) kept, with a full socket between?"""
    found = {}
    for kind in (KINDS[1], KINDS[3]):
        with Pair(kind._replace(send_buffer=SMALL_BUFFER)) as pair:
            expected = []
            for turn, (offset, count) in enumerate([(0, 5), (7, 50_000), (3, 3_000_000), (1, 1)]):
                head = b"HTTP/1.1 200 OK %d\r\n\r\n" % turn + bytes(turn * 20_000)
                expected += [head, CONTENT[offset : offset + count]]
                if turn == 0:
                    reading = pair.start(pair.client.read_to_end)
                pair.write_all(head)
                pair.send_file(offset, count)
            end = pair.end()
            equal = reading.result(WAIT_S) == b"".join(expected)
            found[kind.version] = {"equal": equal, "end": end}
    return found


def big_write() -> Any:
    """How much of 256 KiB does SSLSocket.write take of a full socket, and may the buffer move?"""
    found = {}
    piece = CONTENT[:PIECE_BYTES]
    for ktls in (False, True):
        with Pair(Kind(ktls=ktls, send_buffer=SMALL_BUFFER)) as pair:
            taken, said = pair.fill_by_write(piece)
            reading = pair.start(pair.client.read_to_end)
            again = pair.write_all(bytes(bytearray(piece)))  # the same bytes elsewhere
            pair.write_all(b"end")
            end = pair.end()
            equal = reading.result(WAIT_S) == piece * (len(taken) + 1) + b"end"
            found[_name(ktls=ktls)] = {
                "taken": taken,
                "full": said,
                "again": again,
                "equal": equal,
                "end": end,
            }
    return found


def shorter_retry() -> Any:
    """After SSLWantWriteError, may fewer or other bytes be written in place of those refused?"""
    found = {}
    for ktls in (False, True):
        with Pair(Kind(ktls=ktls, send_buffer=SMALL_BUFFER)) as pair:
            pair.fill_by_write(bytes(20_000))
            reading = pair.start(pair.client.read_to_end)
            write = attempt(pair.until_done, pair.server.write, b"other")
            pair.server.close()
            client = attempt(reading.result, WAIT_S)
            found[_name(ktls=ktls)] = {"write": write, "client": client}
    return found


def want_write_then_sendfile() -> Any:
    """After SSLWantWriteError, where does a file land that is sent before the retry?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        said = attempt(pair.server.write, b"w" * MEBIBYTE)
        reading = pair.start(pair.client.read_to_end)
        pair.send_file(0, 50_000)
        pair.write_all(b"w" * MEBIBYTE)
        end = pair.end()
        data = reading.result(WAIT_S)
        return {
            "write of 1 MiB": said,
            "end": end,
            "bytes beyond 1 MiB": len(data) - MEBIBYTE,
            "file after": data.find(CONTENT[:50_000]),
        }


def raw_send() -> Any:
    """Does send(2) with MSG_MORE share a record with the file, and does OpenSSL's write follow?"""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    more = socket.MSG_MORE
    ways: dict[str, Callable[[Pair], object]] = {
        "SSLSocket.write": lambda pair: pair.write_all(head),
        "send MSG_MORE": lambda pair: socket.socket.send(pair.server, head, more),
        "sendmsg MSG_MORE": lambda pair: socket.socket.sendmsg(
            pair.server, [head[:5], head[5:]], (), more
        ),
    }
    found = {}
    for name, send in ways.items():
        with Pair(Kind()) as pair:
            reading = pair.start(pair.client.read_to_end)
            send(pair)
            pair.send_file(0, 40_000)
            end = pair.end()
            equal = reading.result(WAIT_S) == head + CONTENT[:40_000]
            found[name] = {"equal": equal, "records": pair.client.sizes(), "end": end}
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        taken = socket.socket.send(pair.server, CONTENT[:PIECE_BYTES])
        pair.write_all(CONTENT[taken:PIECE_BYTES])
        end = pair.end()
        equal = reading.result(WAIT_S) == CONTENT[:PIECE_BYTES]
        found["send of 256 KiB"] = {"equal": equal, "taken": taken, "end": end}
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read_to_end)
        socket.socket.send(pair.server, head, more)
        pair.write_all(b"by OpenSSL")
        socket.socket.send(pair.server, b"last", more)
        end = pair.end()
        equal = reading.result(WAIT_S) == head + b"by OpenSSL" + b"last"
        found["MSG_MORE, write, MSG_MORE, close_notify"] = {"equal": equal, "end": end}
    return found


def raw_send_full() -> Any:
    """How does send(2) meet a full socket: a part, EAGAIN, and nothing that must be repeated?"""
    with Pair(Kind(send_buffer=SMALL_BUFFER)) as pair:
        taken: list[int] = []
        try:
            while True:
                sent = sum(taken)
                taken.append(socket.socket.send(pair.server, CONTENT[sent : sent + 100_001]))
        except BlockingIOError:
            full_at = sum(taken)
        reading = pair.start(pair.client.read_to_end)
        pair.send_file(full_at, 300_000)  # another call than the refused one
        rest = CONTENT[full_at + 300_000 : 2_000_000]
        while rest:
            rest = rest[pair.until_done(socket.socket.send, pair.server, rest) :]
        end = pair.end()
        equal = reading.result(WAIT_S) == CONTENT[:2_000_000]
        return {"taken": taken, "equal": equal, "end": end}


def held_back() -> Any:
    """Do bytes sent with MSG_MORE alone arrive within a second, or with the next write?"""
    with Pair(Kind()) as pair:
        pair.write_all(b"before")
        assert pair.client.read(6) == b"before"  # and the session tickets
        socket.socket.send(pair.server, b"head", socket.MSG_MORE)
        within_a_second = pair.client.is_waiting(1.0)
        pair.write_all(b".")
        later = pair.client.read(5) == b"head."
        return {"within a second": within_a_second, "with the next write": later}


def truncated() -> Any:
    """What does sendfile(2) return at the end of a file, and does what it sent arrive?"""
    with Pair(Kind()) as pair:
        reading = pair.start(pair.client.read, 1000)
        first = os.sendfile(pair.server.fileno(), FD, FILE_BYTES - 1000, 50_000)
        second = os.sendfile(pair.server.fileno(), FD, FILE_BYTES, 50_000)
        return {
            "first": first,
            "second": second,
            "arrived": attempt(lambda: reading.result(WAIT_S) == CONTENT[-1000:]),
        }


def unacknowledged() -> Any:
    """Does SIOCOUTQ count what the client has not taken?"""
    with Pair(Kind()) as pair:
        sent = os.sendfile(pair.server.fileno(), FD, 0, 200_000)
        time.sleep(0.1)
        asked = fcntl.ioctl(pair.server, termios.TIOCOUTQ, bytes(4))
        reading = pair.start(pair.client.read, sent)
        equal = reading.result(WAIT_S) == CONTENT[:sent]
        return {"sent": sent, "SIOCOUTQ": struct.unpack("i", asked)[0], "equal": equal}


def _brief(taken: list[int]) -> dict[str, Any]:
    """Of many calls: how many, how many would have blocked, the sizes of the first."""
    return {"calls": len(taken), "EAGAIN": taken.count(0), "first": taken[:4]}


def _name(*, ktls: bool) -> str:
    return "ktls" if ktls else "user space"


FACTS: list[Callable[[], Any]] = [
    whole_file, partial_sends, stopped_half_way, mixed, big_write, shorter_retry,
    want_write_then_sendfile, raw_send, raw_send_full, held_back, truncated, unacknowledged,
]  # fmt: skip
