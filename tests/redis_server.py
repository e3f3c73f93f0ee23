"""A Redis for tests: Debian's redis-server on a port of its own, which a test may stop or kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

import redis

from tests.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

COMMAND = shutil.which("redis-server")
START_TIMEOUT_S = 20.0


class RedisServer:
    """Nothing of it outlives the process, like a Redis without persistence."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `[auth] limits_url`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert COMMAND is not None, "the test is skipped then"
        self._process = subprocess.Popen(
            [COMMAND, "--port", str(self.port), "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                # Closed here: a client that had to try again is in a circle with its first error.
                with self.client() as client:
                    client.ping()
            except redis.RedisError:
                assert time.monotonic() < deadline_s, "redis-server does not answer"
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def kill(self) -> None:
        """SIGKILL; it may be stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It takes connections and answers nothing, as on a machine that swaps."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def fill(self) -> None:
        """It refuses whatever takes memory."""
        with self.client() as client:
            client.config_set("maxmemory", 1)

    def empty(self) -> None:
        """It refuses nothing."""
        with self.client() as client:
            client.config_set("maxmemory", 0)
