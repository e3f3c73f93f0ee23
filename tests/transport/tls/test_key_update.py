"""Keys that the client changes amid its requests: RFC 8446 section 4.6.3."""

from __future__ import annotations

import io
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.transport.test_tls_endings import http1
from tests.transport.tls_bench import LARGE_BYTES, SMALL_BYTES, BenchHandler, TlsBench, run

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = shutil.which("openssl")
HEADER_BYTES = len(b"header\n")
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
