"""Small files beside the cache that processes share: written whole by rename, read whole or not.

Owns their form, JSON with `listed_s`, and the locks that keep processes from asking a store twice.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from zerocopy.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file, among threads and processes; its directory is made if need be.

    Raises:
        StoreError: the file cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:  # somebody deleted the cache
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreError("the cache of the object store cannot be written; try again") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read_note(path: str) -> dict[str, Any] | None:
    """What `write_note` wrote; None where there is nothing, or something else."""
    try:
        with open(path, "rb") as file:
            found = orjson.loads(file.read())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "listed_s" in found else None


def write_note(path: str, document: dict[str, Any]) -> None:
    """Write a file whole, by rename; where it cannot be written, memory has to do."""
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        with open(temporary, "wb") as file:
            file.write(orjson.dumps(document, default=list))
        os.rename(temporary, path)
    except OSError:
        return


def is_young(listed_s: float, now_s: float, list_s: float) -> bool:
    """Whether a listing is still believed; none that is of the future is."""
    return 0 <= now_s - listed_s < list_s
