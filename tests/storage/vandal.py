"""Random changes to a data root, of every kind that a file system knows, from a seed."""

from __future__ import annotations

import ctypes
import os
import shutil
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

RENAME_EXCHANGE = 2
AT_FDCWD = -100
HANDLES_MAX = 4
_LIBC = ctypes.CDLL(None, use_errno=True)

EXCHANGES = ("coinbase", "kraken", ".hidden", "bad name")
SYMBOLS = ("A", "B-USD", "tC:USD", ".hidden", "bad name")
TYPES = ("MD", "TRADES", ".tmp")
FILES = ("time.01.01.25.bin", "price.01.01.25.bin", "x.bin", ".x.bin", "notes.txt", "bin")


class Vandal:
    """Changes what lies below `root`; `away` is a directory beside it."""

    def __init__(self, rng: Random, root: str, away: str) -> None:
        self._rng = rng
        self._root = root
        self._away = away
        self._handles: list[IO[bytes]] = []
        self.log: list[str] = []
        self._deeds: list[tuple[int, Callable[[], object]]] = [
            (8, self._write),
            (4, self._set_time),
            (3, self._write_to_handle),
            (3, self._rename_file),
            (3, self._remove_file),
            (2, self._rename_directory),
            (1, self._exchange_directories),
            (2, self._remove_directory),
            (2, self._make_directories),
            (1, self._come_and_go),
            (1, self._touch_directory),
            (1, self._link_symbolically),
            (1, self._link),
            (1, self._leave_and_return),
        ]

    def act(self) -> None:
        """One change, or an attempt at one."""
        [deed] = self._rng.choices(
            [deed for _, deed in self._deeds], [weight for weight, _ in self._deeds]
        )
        with suppress(OSError, shutil.Error):
            deed()

    def close(self) -> None:
        """Let go of the files that are open for writing."""
        for handle in self._handles:
            handle.close()

    # ---- places

    def _directory(self) -> str:
        rng = self._rng
        parts = [rng.choice(EXCHANGES), rng.choice(SYMBOLS), rng.choice(TYPES)]
        parts += ["deep"] * rng.choice([0, 0, 0, 1, 2, 9])
        depth = rng.choice([1, 2, 2, 3, 3, 3, 3, len(parts)])
        return os.path.join(self._root, *parts[:depth])

    def _file(self) -> str:
        return os.path.join(self._directory(), self._rng.choice(FILES))

    def _told(self, *words: str) -> None:
        self.log.append(" ".join(words))

    # ---- deeds

    def _write(self) -> None:
        path = self._file()
        self._told("write", path)
        if self._rng.random() < 0.8:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = open(path, self._rng.choice(["ab", "wb"]))  # noqa: SIM115 - written to later
        handle.write(b"1234")
        handle.flush()
        self._handles.append(handle)
        if len(self._handles) > HANDLES_MAX:
            self._handles.pop(self._rng.randrange(HANDLES_MAX)).close()

    def _write_to_handle(self) -> None:
        handle = self._rng.choice(self._handles or [None])
        if handle is None:
            return
        self._told("write to what was", str(handle.name))
        os.utime(handle.fileno(), (5, 5))
        handle.write(b"5678")
        handle.flush()

    def _set_time(self) -> None:
        path = self._file()
        self._told("set time of", path)
        modified_s = self._rng.randrange(4_000_000_000)
        os.utime(path, (modified_s, modified_s))

    def _rename_file(self) -> None:
        before, after = self._file(), self._file()
        self._told("rename", before, after)
        os.rename(before, after)

    def _remove_file(self) -> None:
        path = self._file()
        self._told("remove", path)
        os.unlink(path)

    def _rename_directory(self) -> None:
        before, after = self._directory(), self._directory()
        self._told("rename", before, after)
        os.rename(before, after)

    def _exchange_directories(self) -> None:
        one, other = self._directory(), self._directory()
        self._told("exchange", one, other)
        _LIBC.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE)

    def _remove_directory(self) -> None:
        path = self._directory()
        self._told("remove", path)
        shutil.rmtree(path)

    def _make_directories(self) -> None:
        path = self._directory()
        self._told("make", path)
        os.makedirs(path, exist_ok=True)

    def _come_and_go(self) -> None:
        path = self._directory()
        self._told("make and remove", path)
        os.mkdir(path)
        os.rmdir(path)

    def _touch_directory(self) -> None:
        path = self._directory()
        self._told("touch", path)
        os.chmod(path, self._rng.choice([0o700, 0o755]))
        os.utime(path)

    def _link_symbolically(self) -> None:
        target, path = self._rng.choice([(self._file(), self._file()), (self._directory(),) * 2])
        path += "-link.bin" if self._rng.random() < 0.5 else ""
        self._told("link symbolically", target, path)
        os.symlink(target, path)

    def _link(self) -> None:
        target, path = self._file(), self._file()
        self._told("link", target, path)
        os.link(target, path, follow_symlinks=False)

    def _leave_and_return(self) -> None:
        path = self._directory()
        self._told("leave and return", path)
        away = os.path.join(self._away, "moved")
        os.rename(path, away)
        if self._rng.random() < 0.5:
            with open(os.path.join(away, "while-away.bin"), "wb"):
                pass
        os.rename(away, self._directory())
