"""moto's S3, which others wrote, for tests; `MOTO_SERVER` names its command."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from typing import Self

from tests.ports import free_port
from tests.standin import BUCKET

COMMAND = shutil.which(
    os.environ.get("MOTO_SERVER", "moto_server"),
    path=os.pathsep.join((os.environ.get("PATH", ""), os.path.dirname(sys.executable))),
)
START_TIMEOUT_S = 30.0
PAGE = 3
"""Keys of a page of a listing: a thousand would take seconds to put there."""


class MotoServer:
    """moto's S3 with an empty bucket, in a process of its own; in memory."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until the bucket is made."""
        assert COMMAND is not None, "the test is skipped then"
        try:
            self._process = subprocess.Popen(
                [COMMAND, "-H", "127.0.0.1", "-p", str(self.port)],
                env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while not self._makes_bucket():
                assert self._process.poll() is None, "moto_server ended"
                assert time.monotonic() < deadline_s, "moto_server does not answer"
                time.sleep(0.02)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and content of a request by no client of S3."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _makes_bucket(self) -> bool:
        try:
            return self.ask("PUT", f"/{BUCKET}")[0] == 200
        except OSError:
            return False
