"""Keys that the client changes amid its requests: RFC 8446 section 4.6.3."""

from __future__ import annotations

import _ssl
import ctypes
import io
import shutil
import ssl
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.transport.test_tls_endings import http1
from tests.transport.tls.ends import WAIT, Ends
from tests.transport.tls_bench import LARGE_BYTES, SMALL_BYTES, BenchHandler, TlsBench, run
from zerocopy.transport.tls import auto_retry

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = shutil.which("openssl")
HEADER_BYTES = len(b"header\n")
UPDATE_BYTES = 27
"""A record that holds a KeyUpdate alone."""

CONTENT_BYTES = {"small": SMALL_BYTES, "large": HEADER_BYTES + LARGE_BYTES}


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("command", ["K", "k"], ids=["of both sides", "of the client"])
@pytest.mark.parametrize("what", ["small", "large"])
def test_request_after_a_key_update_is_answered(tmp_path: Path, what: str, command: str) -> None:
    """s_client's K asks for new keys of ours, too; k changes its own alone. Three times."""
    host, port = "", 0

    def ask() -> bytes:
        assert OPENSSL is not None
        # The commands of s_client are lines of a single letter, each in a read of its own.
        with subprocess.Popen(
            [OPENSSL, "s_client", "-tls1_3", "-connect", f"{host}:{port}", "-alpn", "http/1.1",
             "-servername", "localhost"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as client:  # fmt: skip
            assert client.stdin is not None
            assert isinstance(client.stdout, io.BufferedReader)
            for _ in range(3):
                client.stdin.write(f"{command}\n".encode())
                client.stdin.flush()
                said = b""
                while b"KEYUPDATE\n" not in said:
                    said += client.stdout.read1(65_536)
                client.stdin.write(http1(f"/api/data?{what}"))
                client.stdin.flush()
                left = CONTENT_BYTES[what]
                said = b""
                while len(said.partition(b"\r\n\r\n")[2]) < left:
                    data = client.stdout.read1(65_536)
                    assert data, said[-300:]
                    said += data
            client.stdin.close()
            client.kill()
        return said

    async def scenario() -> None:
        nonlocal host, port
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        host, port = bench.address
        [said] = await bench.in_threads([partial(ask)])
        assert b"HTTP/1.1 200 " in said
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def update_keys(client: ssl.SSLSocket) -> None:
    """Send a KeyUpdate that asks for none of ours (SSL_key_update(3))."""
    openssl = ctypes.CDLL(_ssl.__file__)
    address = ctypes.c_void_p(auto_retry.address_of(client))
    assert openssl.SSL_key_update(address, 0) == 1
    assert openssl.SSL_do_handshake(address) == 1


def test_key_updates_one_after_the_other_hold_no_read(tmp_path: Path) -> None:
    """Each is a read of its own, so that the loop has its turn however many a client sends."""
    updates = 50
    assert auto_retry.is_available, "this Python keeps its SSL elsewhere; see auto_retry.py"
    with Ends(tmp_path, ssl.TLSVersion.TLSv1_3) as ends:
        with pytest.raises(WAIT):
            ends.client.recv(1)  # the tickets
        for _ in range(updates):
            update_keys(ends.client)
        ends.client.sendall(b"x")
        while ends.unread_bytes() <= updates * UPDATE_BYTES:
            pass  # the loopback delivers by itself
        for _ in range(updates):
            with pytest.raises(BlockingIOError):
                ends.channel.recv(1)
        assert ends.channel.recv(1) == b"x"


def test_key_updates_behind_close_notify_hold_no_loop(tmp_path: Path) -> None:
    """SSL_shutdown(3) reads on for the client's close_notify; it stops after one record, too."""
    with Ends(tmp_path, ssl.TLSVersion.TLSv1_3) as ends:
        with pytest.raises(WAIT):
            ends.client.recv(1)
        for _ in range(3):
            update_keys(ends.client)
        while (before := ends.unread_bytes()) < 3 * UPDATE_BYTES:
            pass
        assert ends.channel.shut_down()
        assert before - ends.unread_bytes() <= UPDATE_BYTES
