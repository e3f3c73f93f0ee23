"""Checks of data root, files and host in a thread, because a disk or a network may take its time.

Owns two questions: may the first "ready" be sent yet, and can a changed configuration be served at
all. It must never know what is done with the results.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import ConfigError, ZerocopyError
from zerocopy.observe.log import get_logger
from zerocopy.storage.tree import open_root
from zerocopy.supervise.access_share import check_auth
from zerocopy.supervise.certificate import PemCopies, validity_warning
from zerocopy.supervise.compose_limits import check_announce
from zerocopy.supervise.resolve import on_one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.config.load import Config
    from zerocopy.supervise.resolve import Address

LOOK_AGAIN_S = 1.0
"""Seconds between two looks at a data root that cannot be read."""

_FILES = "the configuration, its certificate and its data root could not be read"
_log = get_logger(__name__)


class RootWatch:
    """Looks at the root until it can be read; `wake` is called after each look, from a thread."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        self._config = config
        self._wake = wake
        self.is_readable = False
        self.is_unreadable = False
        """Known to be; before the first look is over neither of the two is."""
        self._stopped = threading.Event()
        threading.Thread(target=self._look, name="root", daemon=True).start()

    def stop(self) -> None:
        """Stop; a look that takes for ever holds nothing up."""
        self._stopped.set()

    def _look(self) -> None:
        told = ""
        while not self._stopped.is_set():
            fault = config_fault(self._config)
            if fault is None:
                self.is_readable, self.is_unreadable = True, False
                self._wake()
                return
            if fault != told:
                _log.error("data_root_unreadable", path=self._config.root, reason=fault)
            told = fault
            self.is_unreadable = True
            self._wake()
            self._stopped.wait(LOOK_AGAIN_S)


class Prepared(NamedTuple):
    """A configuration that can be served; certificate, address and secret where it needs them."""

    config: Config
    certificate: PemCopies | None
    host: Address | None
    ticket_secret: bytes | None


class ReloadCheck:
    """Reads the configuration again, in a thread; `wake` is called when `outcome` is there.

    A file on a disk that is away, or in a pipe, may take for ever, and so may a resolver:
    `deadline_s` is when to give up. `resolve` finds the address of a new host.
    """

    def __init__(
        self,
        read: Callable[[], Config],
        resolve: Callable[[Config], Address | None],
        current: Config,
        wake: Callable[[], None],
    ) -> None:
        self._read = read
        self._resolve = resolve
        self._missing = _FILES
        self._current = current
        self._wake = wake
        self.outcome: Prepared | ConfigError | None = None
        self.deadline_s = time.monotonic() + current.server.start_deadline_s
        self._lock = threading.Lock()
        self._is_given_up = False
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def result(self) -> Prepared | None:
        """Return what was prepared, or None as long as that goes on.

        Raises:
            ConfigError: it cannot be served, or the reload no longer waits for it.
        """
        with self._lock:
            outcome = self.outcome
            self._is_given_up = outcome is None and time.monotonic() >= self.deadline_s
        if self._is_given_up:
            raise ConfigError(
                f"{self._missing} within {self._current.server.start_deadline_s:g} s "
                "([server] start_deadline_s)"
            )
        if isinstance(outcome, ConfigError):
            raise outcome
        return outcome

    def _run(self) -> None:
        outcome = self._prepare()
        with self._lock:
            if self._is_given_up:
                if isinstance(outcome, Prepared) and outcome.certificate is not None:
                    outcome.certificate.close()
                return
            self.outcome = outcome
        self._wake()

    def _prepare(self) -> Prepared | ConfigError:
        try:
            config = self._read()
            path = config.root
            # Where the path is as before, a disk that is away now was away for the old workers too.
            fault = None if path == self._current.root else config_fault(config)
            if fault is not None:
                raise ConfigError(f"[data] path: {path} cannot be read: {fault}")
            if config.store_url is not None:
                from zerocopy.supervise.compose_store import (  # noqa: PLC0415 - an extra
                    begin_cache,
                    open_store,
                )

                open_store(config)
                if path != self._current.root:
                    begin_cache(config)
            check_announce(config)
            self._missing = on_one_line(f"[server] host: {config.server.host} was not resolved")
            host = self._resolve(config)
            self._missing = _FILES
            check_keys(config)
            secret = check_auth(config)
            return Prepared(config, keep_certificate(config), host, secret)
        except ConfigError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a reload that fails must not stay under way
            return ConfigError(f"the configuration cannot be read: {error!r}")


def config_fault(config: Config) -> str | None:
    """Why the data root of `config` cannot be read; None if it can. Blocks.

    An object store may be away: what is in its cache is served, so only that has to be there.
    """
    if config.store_url is not None:
        try:
            os.makedirs(config.root, exist_ok=True)
        except OSError as error:
            return error.strerror
    return root_fault(config.root)


def root_fault(path: str) -> str | None:
    """Why the data root cannot be read; None if it can. Blocks."""
    try:
        with open_root(path):
            return None
    except ZerocopyError as error:
        cause = error.__cause__
        return (cause.strerror if isinstance(cause, OSError) else None) or error.detail


def keep_certificate(config: Config) -> PemCopies | None:
    """The certificate of `config` as it is now; warn of one that clients will refuse. Blocks.

    Raises:
        ConfigError: no handshake could succeed.
    """
    if config.listeners().tls_port is None:
        return None
    copies = PemCopies(config.tls.cert_path, config.tls.key_path)
    warning = validity_warning(config.tls.cert_path, copy=copies.fds[0])
    if warning is not None:
        _log.warning("certificate_validity", detail=warning)
    return copies


def check_keys(config: Config) -> None:
    """Assure that the key file of `config` can be read, if it names one; warn of what is unwise.

    Blocks.

    Raises:
        ConfigError: it cannot be read, is none, or others may write it.
    """
    path = config.auth.keys_path
    if path is None:
        return
    from zerocopy.access.keys import permission_warning, read_keys  # noqa: PLC0415 - only where on

    read_keys(path)
    warning = permission_warning(path)
    if warning is not None:
        _log.warning("keys_readable", detail=warning)
