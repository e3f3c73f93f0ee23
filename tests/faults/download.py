"""A large answer on its way to a client that stopped reading, over each transport.

Owns what the tests of ruined files share: how a download begins, stops and ends, and how the
server is started under another program that takes rights from it or gives it a file system.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.faults.client import Client, request_of
from tests.faults.tls_client import INTERNAL_ERROR, TlsClient, wide_client
from tests.server import Answer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEGUN_BYTES = 100_000
BUFFER_BYTES = 32_768
"""What the client's kernel takes while the client does not read."""

SLOW_WAY = pytest.param("http1-tls", marks=pytest.mark.slow)
EVERY_WAY = pytest.mark.parametrize("way", ["http1", SLOW_WAY, "http2"])
BOTH_WAYS = pytest.mark.parametrize("way", ["http1", "http2"])
BOTH_LISTENERS = {"ZEROCOPY_TLS_PORT": "0", "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "2"}


class End(NamedTuple):
    """What came of an answer: the body as far as it came, and whether it ended cleanly."""

    content: bytes
    is_whole: bool


class Download:
    """One request whose answer is read in two parts; between them the client does not read.

    An end that is neither the whole answer nor an abort that HTTP can tell from it is an error:
    over HTTP/1.1 a reset (plain) or no close_notify (TLS), over HTTP/2 INTERNAL_ERROR.
    """

    def __init__(self, server: RunningServer, way: str) -> None:
        self._client = None
        self._h2 = None
        if way == "http2":
            self._h2 = wide_client(server, receive_buffer_bytes=BUFFER_BYTES)
        else:
            kind = TlsClient if way == "http1-tls" else Client
            self._client = kind(server, BUFFER_BYTES)
        self._stream_id = 0
        self._nbytes = 0
        self._begun = b""

    def __enter__(self) -> Self:
        """The download itself, not begun."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        for client in (self._client, self._h2):
            if client is not None:
                client.close()

    def begin(self, target: str) -> None:
        """Ask, check that it is 200, and read a first part."""
        if self._h2 is not None:
            self._stream_id = self._h2.request(target)
            stream = self._h2.streams[self._stream_id]
            self._h2.pump(lambda: len(stream.content) >= BEGUN_BYTES, "the first bytes")
            assert stream.status == 200
        elif self._client is not None:
            self._client.send(request_of(target))
            status, fields = self._client.head()
            assert status == 200
            self._nbytes = int(fields["content-length"])
            self._begun = self._client.read(BEGUN_BYTES)

    def end(self) -> End:
        """Read on to the end."""
        if self._h2 is not None:
            stream = self._h2.streams[self._stream_id]
            self._h2.pump(lambda: stream.is_over, "the end of the stream")
            content = bytes(stream.content)
            if stream.reset_code is None:
                assert stream.answer().content == content
                return End(content, is_whole=True)
            assert stream.reset_code == INTERNAL_ERROR
            assert self._h2.ask("/healthz").status == 200, "the connection goes on"
            return End(content, is_whole=False)
        assert self._client is not None
        rest, is_aborted = self._client.read_until_end(self._nbytes - len(self._begun))
        content = self._begun + rest
        assert is_aborted != (len(content) == self._nbytes), "short with a clean end"
        return End(content, is_whole=not is_aborted)


def download(server: RunningServer, way: str, target: str) -> End | Answer:
    """The whole of an answer at once: what was read of a 200, or another status."""
    if way == "http2":
        with wide_client(server) as h2:
            stream = h2.streams[h2.request(target)]
            h2.pump(lambda: stream.is_over, "the end of the stream")
            if stream.reset_code is not None:
                assert stream.reset_code == INTERNAL_ERROR
                return End(bytes(stream.content), is_whole=False)
            answer = stream.answer()
            return End(answer.content, is_whole=True) if answer.status == 200 else answer
    with (TlsClient if way == "http1-tls" else Client)(server) as client:
        client.send(request_of(target))
        try:
            status, fields = client.head()
        except (EOFError, OSError):
            return End(b"", is_whole=False)
        nbytes = int(fields["content-length"])
        content, is_aborted = client.read_until_end(nbytes)
        assert is_aborted != (len(content) == nbytes), "short with a clean end"
        if status == 200:
            return End(content, is_whole=not is_aborted)
        return Answer(status, fields, content)


def expect(end: End | Answer, *bodies: bytes) -> None:
    """One of `bodies` to the last byte with a clean end, or a beginning of it and an abort."""
    assert isinstance(end, End), end
    if end.is_whole:
        assert any(end.content == body for body in bodies), "a wrong byte with a clean end"
    else:
        assert any(body.startswith(end.content) for body in bodies), "a wrong byte"
        assert all(len(end.content) < len(body) for body in bodies)


@contextmanager
def started_by(folder: Path, *command: str) -> Iterator[None]:
    """In the block `RunningServer` starts its command through another, which must exec it."""
    script = folder / "python"
    line = shlex.join([*command, sys.executable])
    script.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="ascii")
    script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        yield


def in_turn(*steps: Callable[[], object]) -> Callable[[], None]:
    """One step that takes several."""

    def step() -> None:
        for each in steps:
            each()

    return step
