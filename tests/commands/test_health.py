"""`zerocopy health`: one request, one line, one exit code."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.server import ForkedServer, RunningServer
from zerocopy.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of both paths over an empty root."""
    with ForkedServer(tmp_path_factory.mktemp("root"), ZEROCOPY_TLS_PORT="0") as server:
        yield server


class Said:
    """Runs the command in this process, with an environment of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """The exit code, and what was said on either stream."""
        self._patch.setattr("sys.argv", ["zerocopy", "health", *arguments])
        for name, value in {"ZEROCOPY_CONFIG": os.devnull, **environ}.items():
            self._patch.setenv(name, value)
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self._capture.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out + err


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """The command."""
    return Said(monkeypatch, capsys)


def test_the_main_listener_is_found_where_serve_finds_it(server: RunningServer, said: Said) -> None:
    """By the environment, plain and over TLS; every address is asked on loopback."""
    plain = {"USE_TLS": "false", "PORT": str(server.plain_port), "HOST": "0.0.0.0"}
    assert said(**plain) == (0, "ready\n")
    assert said("--alive", **plain) == (0, "alive\n")
    assert said(USE_TLS="true", PORT=str(server.tls_port)) == (0, "ready\n")


def test_a_url_names_another_server(server: RunningServer, said: Said) -> None:
    """Whatever the configuration says, and whoever has signed the certificate."""
    assert said("--url", f"http://127.0.0.1:{server.plain_port}", PORT="1") == (0, "ready\n")
    assert said("--url", f"https://127.0.0.1:{server.tls_port}/", PORT="1") == (0, "ready\n")


def test_a_server_that_cannot_read_its_data_is_alive_but_not_ready(
    tmp_path: Path, said: Said
) -> None:
    """So that a restart is not taken for the cure."""
    root = tmp_path / "root"
    root.mkdir()
    with ForkedServer(root) as server:
        root.rmdir()
        url = f"http://127.0.0.1:{server.port}"
        assert said("--url", url) == (1, f"zerocopy: {url}/readyz: status 503\n")
        assert said("--url", url, "--alive") == (0, "alive\n")


def test_nobody_there_is_one_line_and_exit_code_1(said: Said) -> None:
    """Refused, and a name that does not exist."""
    port = free_port()
    code, line = said("--url", f"http://127.0.0.1:{port}")
    assert (code, line) == (1, f"zerocopy: http://127.0.0.1:{port}/readyz: Connection refused\n")


@pytest.mark.parametrize(
    ("answer", "within_s", "word"),
    [
        (b"", "0.2", "no answer within 0.2 s"),
        (b"SSH-2.0-OpenSSH\r\n", "20", "not an answer of HTTP (BadStatusLine)"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "20", "status 404"),
    ],
)
def test_who_does_not_answer_rightly_is_not_ready(
    said: Said, answer: bytes, within_s: str, word: str
) -> None:
    """Silence, another protocol, another server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4_096)
                peer.sendall(answer)
                done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            told = said("--url", url, "--timeout", within_s)
            assert told == (1, f"zerocopy: {url}/readyz: {word}\n")
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], ids=["head", "content"]
)
def test_a_server_that_drips_holds_nothing_up(said: Said, begun: bytes) -> None:
    """A byte now and then is no answer: the timeout is one of the whole."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, suppress(OSError):
                peer.recv(4_096)
                peer.sendall(begun)
                while not done.wait(0.05):
                    peer.sendall(b"H")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            assert said("--url", url, "--timeout", "0.3") == (
                1,
                f"zerocopy: {url}/readyz: no answer within 0.3 s\n",
            )
            assert thread.is_alive(), "it would have gone on"
        finally:
            done.set()
            thread.join()


def test_a_resolver_that_does_not_answer_holds_nothing_up(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a host is part of the whole; one that is none is said in a line, too."""
    released = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        released.wait(10)
        return []

    assert said("--url", "http://a..b:1")[1].endswith("this is no host name and no address\n")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    code, line = said("--url", "http://stuck.invalid:1", "--timeout", "0.3")
    released.set()
    assert (code, line.rpartition(": ")[2]) == (1, "no answer within 0.3 s\n")


def test_a_port_that_nobody_can_know_asks_for_a_url(said: Said) -> None:
    """With port 0 the listener is any free one."""
    code, line = said(PORT="0")
    assert (code, line) == (
        1,
        "zerocopy: the port is any free one (0): name the listener with --url\n",
    )


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://a", "http://", "http://a/b", "http://a:x"])
def test_a_url_that_is_none_is_a_usage_error(said: Said, url: str) -> None:
    """With what would be right."""
    code, line = said("--url", url)
    assert code == 2
    assert "--url: must be http://host:port or https://host:port" in line
