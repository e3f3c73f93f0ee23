"""The object store: what it lists, and its files read whole, by obstore.

The one file that knows obstore. Owns retries, timeouts and the breaker; every fault of the network
leaves as a `StoreError` whose cause says what happened and holds no credentials. It blocks, without
the interpreter's lock, and is for threads. The tokio threads of obstore begin with the first call,
so it must not be called before a fork.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zlib
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zerocopy.core.errors import ConfigError, DataChangedError, StoreError
from zerocopy.storage.store.etags import CHUNK_BYTES, PUT_PART_BYTES, is_of, parts_of, pieces_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.store.breaker import Breaker

PART_BYTES = 8 << 20
PARTS = 4
"""A file of more than one part is fetched by so many threads."""

_CONNECT_S = 5.0
_RETRIES = 3
_LISTED_AT_ONCE = 1_000
_NS_PER_S = 1_000_000_000
_CAUSE_CHARACTERS = 200

_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@]*:.*@")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status:? (?:code:? )?([1-5][0-9]{2})")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class Entry(NamedTuple):
    """A file of the store: its length in bytes, when it was put there, and its ETag.

    `modified_ns` are unix nanoseconds. The store tells whole seconds; what is below them is a
    digest of the ETag. So length and time together tell one state of a file from another, on every
    node alike, and a copy on disk that has both says by itself what it is a copy of.
    """

    size: int
    modified_ns: int
    etag: str


class ObjectChangedError(DataChangedError):
    """A file of the store is gone or is another one than was listed."""


class ObjectStore:
    """The files below `url`. Safe to use from several threads.

    Raises:
        ConfigError: obstore is not installed, or the URL or an option is none of its.
    """

    def __init__(
        self,
        url: str,
        breaker: Breaker,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        allow_http: bool = False,
        timeout_s: float = 10.0,
        check_md5: bool = True,
    ) -> None:
        try:
            import obstore  # noqa: PLC0415 - an extra, and 20 ms
            import obstore.store  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                "[data] path: an object store needs the extra zerocopy[s3] (obstore)"
            ) from None
        if _PASSWORD.match(url):
            raise ConfigError(
                "[data] path: credentials do not belong into the URL of an object store, which is "
                "printed and logged; name them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        self._obstore = obstore
        self._faults: tuple[type[Exception], ...] = (obstore.exceptions.BaseError, OSError)
        self._breaker = breaker
        self._check_md5 = check_md5
        given = {"endpoint": endpoint, "region": region}
        config: Any = {name: value for name, value in given.items() if value is not None}
        options: dict[str, Any] = (
            {}
            if url.startswith(("file:", "memory:"))
            else {
                **({"config": config} if config else {}),
                "client_options": {
                    "allow_http": allow_http,
                    "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
                    "read_timeout": timedelta(seconds=timeout_s),
                    "timeout": timedelta(days=1),  # a large file may take long; see read_timeout
                },
                "retry_config": {
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=timeout_s),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=2),
                        "base": 2,
                    },
                },
            }
        )
        try:
            self._store: Any = obstore.store.from_url(url, **options)
        except Exception as error:  # noqa: BLE001 - ValueError and classes of its own
            reason = str(error).partition("\n")[0][:_CAUSE_CHARACTERS]
            raise ConfigError(f"[data] path: {url} is no object store: {reason}") from None

    def files(self, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """Every file below the folder `prefix`, by its key, which begins with `prefix`.

        Raises:
            StoreError: the store is away, or the bucket is.
        """
        with self._asking("list"):
            found = self._obstore.list(self._store, prefix or None, chunk_size=_LISTED_AT_ONCE)
            for chunk in found:
                for meta in chunk:
                    yield meta["path"], _entry_of(meta)

    def names(self, prefix: str) -> Iterator[str]:
        """The keys of the files in the folder `prefix`, with no more requests than are read."""
        return (key for key, _ in self.files(prefix))

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders in the folder `prefix`.

        Raises:
            StoreError: the store is away, or the bucket is.
        """
        with self._asking("list"):
            found = self._obstore.list_with_delimiter(self._store, prefix or None)
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    def read_into(self, key: str, entry: Entry, fd: int) -> int:
        """Write the file `key`, as it was listed, to the beginning of a descriptor.

        Length, ETag and, where the ETag is one, MD5 are those of `entry`. Returns the CRC-32.

        Raises:
            ObjectChangedError: it is gone, or another one by now.
            StoreError: the store is away, or what it gave is not what it listed.
            OSError: the descriptor cannot be written.
        """
        known = _MD5.fullmatch(entry.etag) if self._check_md5 else None
        sums = _Sums(with_md5=known is not None)
        with self._getting(key):
            if entry.size > PART_BYTES:
                self._read_parts(key, entry, fd)
                for piece in pieces_of(fd, entry.size):
                    sums.update(piece)
            else:
                self._read_range(key, entry, fd, look=sums.update)
        if known is not None and sums.md5.hexdigest() != known[1]:
            raise self._wrong(f"{key}: its MD5 is not its ETag; see [s3] check_md5")
        self._breaker.note(is_answered=True)
        return sums.crc32

    def read_rest_into(self, key: str, entry: Entry, fd: int, begin: int) -> bool:
        """Write what is behind `begin` of the file `key`; what is before it, the descriptor has.

        That may be of an earlier state of the file, or of another one. Returns whether all of it is
        the file that was listed, which its ETag proves.

        Raises:
            ObjectChangedError: it is gone, or another one by now.
            StoreError: the store is away, or what it gave is not what it listed.
            OSError: the descriptor cannot be read or written.
        """
        with self._getting(key):
            self._read_parts(key, entry, fd, begin)
        self._breaker.note(is_answered=True)
        return is_of(fd, entry.etag, entry.size)

    def is_provable(self, entry: Entry) -> bool:
        """Whether an ETag says what its file holds."""
        return self._check_md5 and bool(parts_of(entry.etag, entry.size))

    def put(self, key: str, path: str) -> None:
        """Store a local file under `key`, in parts where it is large.

        Raises:
            StoreError: the store is away, or refuses it.
        """
        with self._asking("put"):
            self._obstore.put(self._store, key, Path(path), chunk_size=PUT_PART_BYTES)

    def remove(self, key: str) -> None:
        """Delete the file `key`, which need not be there.

        Raises:
            StoreError: the store is away, or refuses.
        """
        with self._asking("delete"):
            try:
                self._obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def _read_parts(self, key: str, entry: Entry, fd: int, begin: int = 0) -> None:
        """Read what is behind `begin` of a file, much of it by several threads."""
        begins = iter(range(begin, entry.size, PART_BYTES))
        lock, faults = threading.Lock(), list[Exception]()

        def work() -> None:
            while not faults:
                with lock:
                    begin = next(begins, None)
                if begin is None:
                    return
                span = begin, min(begin + PART_BYTES, entry.size)
                try:
                    self._read_range(key, entry, fd, span)
                except Exception as error:  # noqa: BLE001 - raised below, where it is waited for
                    faults.append(error)
                    return

        count = min(PARTS, -(-(entry.size - begin) // PART_BYTES))
        others = [threading.Thread(target=work, name="part", daemon=True) for _ in range(1, count)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        if faults:
            raise faults[0]

    def _read_range(
        self,
        key: str,
        entry: Entry,
        fd: int,
        span: tuple[int, int] | None = None,
        look: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Write the bytes of a span, or of all, to their place in a descriptor.

        Raises:
            StoreError: there came more or fewer.
        """
        options: Any = {"if_match": entry.etag} if entry.etag else {}
        if span is not None:
            options["range"] = span
        found = self._obstore.get(self._store, key, options=options)
        self._check_meta(key, entry, found.meta)
        begin, most = span or (0, entry.size)
        offset = begin
        # What fits into memory is asked for once: each call wakes another thread.
        whole = most - begin <= CHUNK_BYTES
        for chunk in (found.bytes(),) if whole else found.stream(min_chunk_size=CHUNK_BYTES):
            piece = memoryview(chunk)
            if offset + len(piece) > most:
                break  # nothing is written beyond it
            _write(fd, piece, offset)
            if look is not None:
                look(piece)
            offset += len(piece)
        else:
            if offset == most:
                return
        raise self._wrong(f"{key}: other than {most - begin} bytes came of {entry.size}")

    def _check_meta(self, key: str, entry: Entry, meta: Any) -> None:
        if entry.etag and meta["e_tag"] is not None and meta["e_tag"] != entry.etag:
            raise ObjectChangedError("a file of the object store was replaced")
        if meta["size"] != entry.size:
            raise self._wrong(f"{key}: it has {meta['size']} bytes, {entry.size} are listed")

    def _wrong(self, what: str) -> StoreError:
        self._breaker.note(is_answered=False)
        error = StoreError("the object store gave other bytes than it listed; try again")
        error.__cause__ = DataChangedError(what)
        return error

    @contextmanager
    def _getting(self, key: str) -> Iterator[None]:
        """`_asking` for a file, which may be gone or another one by now."""
        with self._asking("get"):
            try:
                yield
            except (FileNotFoundError, self._obstore.exceptions.PreconditionError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                cause = ConnectionError(f"{key}: {_reason(error)}")
                raise ObjectChangedError("a file of the object store was replaced") from cause

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn the faults of a call into a `StoreError`, and tell the breaker how it went."""
        self._breaker.check()
        try:
            yield
        except (StoreError, ObjectChangedError):
            raise
        except self._faults as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of this machine: obstore's have no number
            self._breaker.note(is_answered=False)
            away = StoreError("the object store cannot be read now; try again")
            raise away from ConnectionError(f"{what}: {_reason(error)}")  # not from what it said
        if what != "get":
            self._breaker.note(is_answered=True)


class _Sums:
    """The sums of a file, of pieces that a core still has in its cache."""

    __slots__ = ("_with_md5", "crc32", "md5")

    def __init__(self, *, with_md5: bool) -> None:
        self._with_md5 = with_md5
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.crc32 = 0

    def update(self, piece: bytes | memoryview) -> None:
        self.crc32 = zlib.crc32(piece, self.crc32)
        if self._with_md5:
            self.md5.update(piece)


def _entry_of(meta: Any) -> Entry:
    etag = meta["e_tag"] or ""
    modified = meta["last_modified"]
    told = f"{etag} {meta['size']}" if etag else f"{modified.isoformat()} {meta['size']}"
    below = int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "big")
    seconds = int(modified.timestamp())
    return Entry(meta["size"], seconds * _NS_PER_S + below % _NS_PER_S, etag)


def _write(fd: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.pwrite(fd, piece, offset)
        piece, offset = piece[count:], offset + count


def _reason(error: Exception) -> str:
    """What the log may say of a fault: its class, the status, the store's code for it.

    The text itself may hold what was signed, and the name of a key.
    """
    text = str(error)
    words = [type(error).__name__]
    words += [f"status {found[1]}" for found in [_STATUS.search(text)] if found]
    words += [found[1] for found in [_CODE.search(text)] if found]
    for sign in ("timed out", "connection refused", "connection closed", "dns error", "credential"):
        if sign in text.lower():
            words.append(sign)
    return ", ".join(words)
