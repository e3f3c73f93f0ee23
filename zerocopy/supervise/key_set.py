"""The key set of tokens at an URL: fetched by a thread, handed to all workers by a memory.

Owns when it is fetched: at once, again each `refresh_s`, sooner when a worker asks, and again and
again while its source is away. What is no key set changes nothing: the one before stays, and ages.
It must never know tokens.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zerocopy.core.errors import ConfigError
from zerocopy.observe.log import get_logger

if TYPE_CHECKING:
    from zerocopy.observe.metrics import Collector

FETCH_S = 10.0
"""Seconds for a fetch from the connection on; half of it for one wait is too long already."""

ASKED_AFTER_S = 10.0
"""Seconds from one fetch to the next that workers ask for: anybody can name an unknown key."""

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 10.0
"""After a failure it is fetched again after 1 s, then 2, 4, … up to this."""

_OPTION = "[auth] jwks"
_log = get_logger(__name__)


class KeySetFetcher:
    """Keeps the key set at `url` fetched until it is stopped; `fds` are for workers to inherit."""

    def __init__(self, url: str, refresh_s: float, collector: Collector) -> None:
        from zerocopy.access.keyset_source import make_memory  # noqa: PLC0415 - see read_url

        self.url = url
        self.refresh_s = refresh_s
        self._collector = collector
        self._memory_fd = make_memory()
        self._wanted_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.fds = self._memory_fd, self._wanted_fd
        self._is_stopped = False
        self._closing = threading.Lock()
        self._told = ""
        threading.Thread(target=self._run, name="key set", daemon=True).start()

    def stop(self) -> None:
        """Fetch no more; the thread closes the descriptors, which it may be using."""
        with self._closing:
            self._is_stopped = True
            os.eventfd_write(self._wanted_fd, 1)

    def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._is_stopped:
            if self._fetch():
                retry_s, wait_s = RETRY_FIRST_S, self.refresh_s
            else:
                wait_s, retry_s = min(retry_s, self.refresh_s), min(2 * retry_s, RETRY_MAX_S)
            self._wait(wait_s)
        with self._closing:
            for fd in self.fds:
                os.close(fd)

    def _wait(self, wait_s: float) -> None:
        """Until the next fetch is due, or a worker has asked for it and it may be."""
        fetched_at_s = time.monotonic()
        due_at_s = fetched_at_s + wait_s
        poll = select.poll()
        poll.register(self._wanted_fd, select.POLLIN)
        while not self._is_stopped and (left_s := due_at_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1e3):
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wanted_fd)
                due_at_s = min(due_at_s, fetched_at_s + ASKED_AFTER_S)

    def _fetch(self) -> bool:
        from zerocopy.access.keyset import read_key_set  # noqa: PLC0415 - see read_url
        from zerocopy.access.keyset_source import write_memory  # noqa: PLC0415

        collector = self._collector
        try:
            text = read_url(self.url)
            keys = read_key_set(text)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be the last fetch
            reason = error.detail if isinstance(error, ConfigError) else repr(error)
            if reason != self._told:
                self._told = reason
                _log.error("key_set_not_fetched", url=self.url, reason=reason)
            collector.key_set_fetches["failed"] += 1
            return False
        write_memory(self._memory_fd, text)
        if not collector.key_set_fetched_at_s or self._told:
            _log.info("key_set_fetched", url=self.url, keys=len(keys))
        self._told = ""
        collector.key_set_fetched_at_s = time.monotonic()
        # Last, so that a page which counts it has its age, too.
        collector.key_set_fetches["done"] += 1
        return True


def read_url(url: str) -> bytes:
    """What is at `url`, whole; blocks for `FETCH_S` at most, and while its name is resolved.

    joserfc and what it stands on are loaded where a key set is wanted, and nowhere else.

    Raises:
        ConfigError: it cannot be had, or is too long; the detail names no URL.
    """
    from zerocopy.access.keyset_source import KEY_SET_BYTES_MAX  # noqa: PLC0415

    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - check_url
    deadline = _Deadline()
    try:
        with deadline, _opener(deadline).open(request, timeout=FETCH_S / 2) as response:
            text: bytes = response.read(KEY_SET_BYTES_MAX + 1)
            is_cut = len(text) <= KEY_SET_BYTES_MAX and response.length
    except urllib.error.HTTPError as error:
        error.close()
        raise ConfigError(f"the answer was {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        if deadline.is_over:
            raise ConfigError(f"it did not come within {FETCH_S:g} s") from error
        reason = error.reason if isinstance(error, urllib.error.URLError) else repr(error)
        raise ConfigError(f"no answer: {reason}") from error
    if deadline.is_over:  # and so it looks as if the server had ended it
        raise ConfigError(f"it did not come within {FETCH_S:g} s")
    if len(text) > KEY_SET_BYTES_MAX:
        raise ConfigError(f"a key set has at most {KEY_SET_BYTES_MAX:,} bytes")
    if is_cut:  # http.client says nothing of that
        raise ConfigError("the answer was cut short")
    return text


class _Deadline:
    """Ends the connections of one fetch when its time is over: a server may send a byte at a time.

    The timeout of a socket is for one wait, so it bounds no fetch.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._socks: list[socket.socket] = []
        self._timer = threading.Timer(FETCH_S, self._end)
        self._timer.daemon = True

    def watch(self, sock: socket.socket) -> None:
        """Have `sock` ended in time.

        Raises:
            TimeoutError: time is over already.
        """
        self._socks.append(sock)
        if self.is_over:
            raise TimeoutError

    def _end(self) -> None:
        self.is_over = True
        for sock in self._socks:
            with contextlib.suppress(OSError):  # it has been closed
                # Of the socket and not of TLS, which the other thread is using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _opener(deadline: _Deadline) -> urllib.request.OpenerDirector:
    """What fetches an URL, through the proxy of the environment where there is one.

    It follows no redirects: another address is another one to trust.
    """

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class SecureConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Connection, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(SecureConnection, req, context=context)

    context = ssl.create_default_context()
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        Handler(),
        SecureHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def is_url(jwks: str) -> bool:
    """Whether `[auth] jwks` is an URL, else it is a path."""
    return "://" in jwks


def check_url(url: str) -> None:
    """Assure that nobody on the way can change what is fetched from `url`.

    Raises:
        ConfigError: it is neither https nor http of this machine, or no URL.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{_OPTION}: not an URL: {url}") from error
    if not host or parts.username is not None:
        raise ConfigError(f"{_OPTION}: an URL has a host and no user: {url}")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise ConfigError(f"{_OPTION}: the URL must begin with https://: {url}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
