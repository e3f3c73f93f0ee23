"""What /api/symbols responds with: from the watched tree if there can be one, else from a walk.

Owns the life of the tree: the first request makes it, each request brings it up to date, and it is
dropped after a while without requests. If it cannot be brought up to date, it is made anew. It
blocks on the disk and is used by one thread at a time.
"""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING

import orjson

from zerocopy.core.errors import ZerocopyError
from zerocopy.storage.symbols.pages import SymbolPages
from zerocopy.storage.symbols.walk import list_symbols, symbols_document
from zerocopy.storage.symbols.watched import StaleError, SymbolTree, UnwatchableError
from zerocopy.storage.tree import data_error, open_root
from zerocopy.storage.watch.inotify import InotifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zerocopy.storage.symbols.directory import Directory

DISUSED_S = 600.0
"""Seconds without a request after which the tree is dropped: it costs each write about 0.5 µs."""

RETRY_S = 60.0
"""Seconds until a tree that could not be watched is tried again; a trial is a walk of its own."""

DRAINED_AT_BYTES = 131_072
"""Queued events, some 3,000 of 16,384, from which on they are read between requests too."""

_LIMITS = {
    errno.ENOSPC: "the limit of watches is reached: raise the sysctl fs.inotify.max_user_watches",
    errno.EMFILE: (
        "the limit of inotify instances is reached: raise the sysctl fs.inotify.max_user_instances"
    ),
    errno.ENOSYS: "the kernel or a sandbox has no inotify(7)",
    errno.EINVAL: "the kernel is older than Linux 4.18",
}


class SymbolIndex:
    """The responses for one data root.

    `on_refused` gets one sentence for each cause in the life of the object.
    """

    def __init__(
        self, root: str, watched_directories_max: int, on_refused: Callable[[str], object]
    ) -> None:
        self._root = root
        self._directories_max = watched_directories_max
        self._on_refused = on_refused
        self._told: set[str] = set()
        self._tree: SymbolTree | None = None
        self._pages = SymbolPages()
        self._tried_s = -math.inf
        self._asked_s = -math.inf
        self.walks = 0
        """How often the data directory, or that of one exchange, was read as a whole."""
        self.watched_directories = 0
        """Directories of the tree; 0 where there is none."""

    def documents(self, exchanges: Iterable[str | None]) -> dict[str | None, bytes | ZerocopyError]:
        """The response or the error of each exchange, None for all of them, as of this call."""
        self._asked_s = time.monotonic()
        try:
            with open_root(self._root) as root_fd:
                is_watched = self._refresh(root_fd)
        except ZerocopyError as error:
            return dict.fromkeys(exchanges, error)
        self._count()
        if is_watched:
            return {exchange: self._pages.document(exchange) for exchange in exchanges}
        return {exchange: self._walk(exchange) for exchange in exchanges}

    def maintain(self) -> None:
        """Called about once a second: keep the kernel's queue from overflowing.

        A queue of 16,384 events lasts a second of 16,000 writes. If it overflows nevertheless, or
        no request came for long, the tree is dropped, and with it its cost for writers.
        """
        if self._tree is None:
            return
        try:
            if time.monotonic() - self._asked_s > DISUSED_S:
                self.close()
            elif self._tree.queued_bytes() >= DRAINED_AT_BYTES:
                self._tree.collect()
        except (StaleError, OSError):
            self.close()
        self._count()

    def close(self) -> None:
        """Give the tree back; the next request makes a new one."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None
            self._pages = SymbolPages()

    def _count(self) -> None:
        self.watched_directories = 0 if self._tree is None else len(self._tree)

    def _walk(self, exchange: str | None) -> bytes | ZerocopyError:
        self.walks += 1
        try:
            return orjson.dumps(symbols_document(list_symbols(self._root, exchange)))
        except ZerocopyError as error:
            return error

    def _refresh(self, root_fd: int) -> bool:
        """Whether the pages are true now.

        Raises:
            ZerocopyError: a directory cannot be read.
        """
        try:
            if self._tree is not None:
                try:
                    self._tree.refresh(root_fd)
                except StaleError:
                    self.close()
            if self._tree is None and not self._plant(root_fd):
                return False
            self._write()
        except UnwatchableError as refusal:
            self.close()
            self._refuse(str(refusal))
            return False
        except InotifyError as error:
            self.close()
            self._refuse(_LIMITS.get(error.errno or 0, f"inotify(7): {error.strerror}"))
            return False
        except OSError as error:
            self.close()
            raise data_error(error) from error
        except BaseException:
            self.close()
            raise
        return True

    def _plant(self, root_fd: int) -> bool:
        if self._directories_max == 0 or time.monotonic() - self._tried_s < RETRY_S:
            return False
        self.walks += 1
        self._tree = SymbolTree(root_fd, self._directories_max)
        return True

    def _write(self) -> None:
        """Bring the pages up to date with the tree."""
        tree = self._tree
        assert tree is not None, "there is one to write of"
        for exchange, symbols in tree.changed.items():
            listed = tree.root.children.get(exchange)
            if listed is None:
                self._pages.replace(exchange, None)
                continue
            children = listed.children
            if symbols is None:
                times = {name: child.latest_s() for name, child in children.items()}
                self._pages.replace(exchange, times)
            else:
                times = {name: _latest_s(children.get(name)) for name in symbols}
                self._pages.update(exchange, times)
        tree.changed = {}

    def _refuse(self, cause: str) -> None:
        self._tried_s = time.monotonic()
        if cause not in self._told:
            self._told.add(cause)
            self._on_refused(
                f"/api/symbols reads the whole data directory for each request: {cause}."
            )


def _latest_s(symbol: Directory | None) -> int | None:
    return None if symbol is None else symbol.latest_s()
