"""The file of API keys: what is in it, how it is read, and how a key is added and revoked.

Owns its form. It holds the SHA-256 of each key, never a key: a key is 256 random bits, so its hash
needs neither salt nor stretching (nobody can try them all). A file is replaced whole, so a reader
sees the one before or the one after.

    {"keys": [{"name": "desk", "sha256": "9f86…", "created": "2026-11-30T12:00:00Z",
               "exchanges": ["coinbase"], "symbols": ["BTC-*"], "requests_per_s": 100}]}
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from zerocopy.core.access import EVERYTHING, PATTERNS_MAX, Allowance, Grant, Scope
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "zc_"
"""How every key begins, so that scanners for lost secrets find it."""

KEYS_MAX = 100_000
"""Keys in one file."""

KEY_BYTES_MAX = 256
"""Bytes of what may be a key; longer ones are none, and are not hashed."""

FILE_BYTES_MAX = 67_108_864
"""Bytes of a key file: `KEYS_MAX` keys of some hundred bytes each, and a margin."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PATTERN = re.compile(r"[A-Za-z0-9._:+@^=&#~*?!\[\]-]{1,64}")
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

_Patterns = Annotated[
    tuple[Annotated[str, Meta(pattern=rf"^{_PATTERN.pattern}\Z")], ...],
    Meta(min_length=1, max_length=PATTERNS_MAX),
]
_Count = Annotated[int, Meta(ge=1, le=2**53)]


class Entry(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """One key: the hash of it, whose it is, what it may see and how much of it.

    Limits as in `Allowance`; None is what `[auth]` says. The collector has nothing to find in it,
    and would look at a hundred thousand of them for 0.2 s.
    """

    name: Annotated[str, Meta(pattern=rf"^{_NAME.pattern}\Z")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: str
    exchanges: _Patterns = EVERYTHING
    symbols: _Patterns = EVERYTHING
    types: _Patterns = EVERYTHING
    requests_per_s: _Count | None = None
    bytes_per_day: _Count | None = None
    streams: _Count | None = None

    @property
    def scope(self) -> Scope:
        """What it may see."""
        return Scope(self.exchanges, self.symbols, self.types)

    @property
    def mark(self) -> str:
        """Half of its hash: enough to tell it from any other, and of no use to who reads it."""
        return self.sha256[:32]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    # Each is decoded by itself: all at once would keep the interpreter's lock for 0.25 s.
    keys: Annotated[tuple[Raw, ...], Meta(max_length=KEYS_MAX)] = ()


_ENTRY = msgspec.json.Decoder(Entry)


# ---- reading


def read_keys(path: str) -> tuple[Entry, ...]:
    """The keys in the file at `path`.

    Raises:
        ConfigError: it cannot be read, is not such a file, or others than its owner may write it.
    """
    text, place = _read(path), ""
    entries: list[Entry] = []
    try:
        for raw in msgspec.json.decode(text, type=_File).keys:
            place = f"key {len(entries) + 1}: "
            entries.append(_ENTRY.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a key file: {place}{error}") from error
    for kind in ("name", "sha256"):
        if len({getattr(entry, kind) for entry in entries}) < len(entries):
            raise ConfigError(f"{path}: two keys have the same {kind}")
    return tuple(entries)


def permission_warning(path: str) -> str | None:
    """What is wrong with who may read the file, in a sentence; None where nothing is.

    It holds no key, but names, and what each may see.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if mode & stat.S_IROTH:
        return f"{path}: every user of this machine may read the key file; chmod 640 {path}"
    return None


def _read(path: str) -> bytes:
    try:
        # Not to wait for the writer of a pipe; it is refused below.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such key file; `zerocopy keys add` makes one"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{path}: the key file must be a regular file")
        if mode & _OTHERS_MAY_WRITE:
            raise ConfigError(
                f"{path}: others than its owner may write the key file; chmod 600 {path}"
            )
        with open(fd, "rb", closefd=False) as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(fd)
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: the key file is longer than {FILE_BYTES_MAX:,} bytes")
    return text


def _unreadable(path: str, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: the key file cannot be read: {error.strerror}")


class Change(NamedTuple):
    """What one reading of the file changed; a key whose entry is another now is in both."""

    added: list[Grant]
    gone: list[Grant]


_Table = dict[bytes, tuple[Entry, Grant]]
"""By the hash of a key."""


class Reading(NamedTuple):
    """The grants of one reading of the file, and what that changes."""

    table: _Table
    marked: dict[str, Grant]
    change: Change


class Keys:
    """The grants of one file, found by key; a reading that changes nothing keeps the same ones."""

    def __init__(self, default: Allowance) -> None:
        self._default = default
        self._entries: _Table = {}
        self._marked: dict[str, Grant] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def compare(self, entries: tuple[Entry, ...]) -> Reading:
        """What was read beside what there is; changes nothing, and so is for a thread.

        A hundred thousand keys take 0.1 s. Nobody may `take` another reading meanwhile.
        """
        before, table, added = dict(self._entries), _Table(), []
        for entry in entries:
            digest = bytes.fromhex(entry.sha256)
            kept = before.get(digest)
            if kept is not None and kept[0] == entry:
                del before[digest]
                table[digest] = kept
            else:
                grant = Grant(entry.name, entry.scope, self._of(entry), mark=entry.mark)
                table[digest] = entry, grant
                added.append(grant)
        marked = {grant.mark: grant for _, grant in table.values()}
        return Reading(table, marked, Change(added, [grant for _, grant in before.values()]))

    def take(self, reading: Reading) -> Change:
        """Grant what was read. What is no longer granted is for the caller to revoke."""
        self._entries, self._marked, change = reading
        return change

    def find(self, key: bytes) -> Grant | None:
        """Whose key this is.

        A hash finds it, so how long that takes tells of hashes and not of keys; the last comparison
        takes the same time wherever two differ.
        """
        if len(key) > KEY_BYTES_MAX:
            return None
        digest = hashlib.sha256(key).digest()
        found = self._entries.get(digest)
        if found is None or not hmac.compare_digest(bytes.fromhex(found[0].sha256), digest):
            return None
        return found[1]

    def marked(self, mark: str) -> Grant | None:
        """The grant of a key by its mark, for a ticket that was made with it."""
        return self._marked.get(mark)

    def _of(self, entry: Entry) -> Allowance:
        own, other = entry, self._default
        return Allowance(
            other.requests_per_s if own.requests_per_s is None else own.requests_per_s,
            other.bytes_per_day if own.bytes_per_day is None else own.bytes_per_day,
            other.streams if own.streams is None else own.streams,
        )


# ---- writing


def add_key(
    path: str,
    name: str,
    *,
    scope: Scope = Scope(),  # noqa: B008 - frozen
    requests_per_s: int | None = None,
    bytes_per_day: int | None = None,
    streams: int | None = None,
) -> str:
    """Make a key and write its hash; creates the file, readable by its owner alone.

    Returns the key, which is nowhere else.

    Raises:
        ConfigError: the name is taken or malformed, so is a pattern or limit, or the file.
        OSError: it cannot be written.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    entry = {
        "name": name,
        "sha256": hashlib.sha256(key.encode("ascii")).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "exchanges": scope.exchanges,
        "symbols": scope.symbols,
        "types": scope.types,
        "requests_per_s": requests_per_s,
        "bytes_per_day": bytes_per_day,
        "streams": streams,
    }
    _check(name, scope)
    try:
        made = msgspec.convert(entry, Entry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"no such key can be: {error}") from error
    with _changing(path, may_be_new=True) as entries:
        if any(entry.name == name for entry in entries):
            raise ConfigError(f"{path}: there is a key named {name}; revoke it first")
        if len(entries) >= KEYS_MAX:
            raise ConfigError(f"{path}: a key file holds at most {KEYS_MAX:,} keys")
        _write(path, (*entries, made))
    return key


def _check(name: str, scope: Scope) -> None:
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"the name {name!r} must be 1 to 64 letters, digits and . _ @ -, "
            "the first a letter or digit"
        )
    for pattern in (*scope.exchanges, *scope.symbols, *scope.types):
        if _PATTERN.fullmatch(pattern) is None:
            raise ConfigError(
                f"the pattern {pattern!r} must be 1 to 64 of the characters of names and * ? [ ] !"
            )


def revoke_key(path: str, name: str) -> None:
    """Take the key named `name` out of the file; the servers that read it know within two seconds.

    Raises:
        ConfigError: there is none of that name, or the file cannot be read.
        OSError: it cannot be written.
    """
    with _changing(path) as entries:
        left = tuple(entry for entry in entries if entry.name != name)
        if len(left) == len(entries):
            raise ConfigError(f"{path}: there is no key named {name!r}")
        _write(path, left)


@contextlib.contextmanager
def _changing(path: str, *, may_be_new: bool = False) -> Iterator[tuple[Entry, ...]]:
    """The keys as they are, while nobody else changes them: a lock on the directory, flock(2)."""
    parent = os.path.dirname(os.path.realpath(path))
    try:
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{parent}: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield () if may_be_new and not os.path.exists(path) else read_keys(path)
        os.fsync(directory)  # or a crash could bring a revoked key back
    finally:
        os.close(directory)


def _write(path: str, entries: tuple[Entry, ...]) -> None:
    """Replace the file whole; it keeps its mode and owner. A new one has mode 0600.

    Where `path` is a link, what it leads to is replaced.
    """
    path = os.path.realpath(path)
    text = msgspec.json.format(msgspec.json.encode({"keys": entries}), indent=1) + b"\n"
    directory = os.path.dirname(path)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=".keys-")
    try:
        with open(fd, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                before = os.stat(path)
                if before.st_uid != os.geteuid() or before.st_gid != os.getegid():
                    os.fchown(fd, before.st_uid, before.st_gid)
                os.fchmod(fd, stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
