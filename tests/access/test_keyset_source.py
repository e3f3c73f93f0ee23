"""Where workers have the key set from: files and the supervisor's memory."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.issuing import jwk, key_set
from tests.issuing_server import wait_until
from zerocopy.access.keyset_source import (
    KEY_SET_BYTES_MAX,
    KeySetFile,
    KeySetMemory,
    make_memory,
    write_memory,
)
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = key_set(jwk("ES256", "one"))
TWO = key_set(jwk("ES256", "one"), jwk("EdDSA", "two"))


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """And not otherwise: None."""
    path = tmp_path / "jwks.json"
    path.write_bytes(ONE)
    source = KeySetFile(str(path))
    assert source.age_s == math.inf
    keys = source.read_if_changed()
    assert keys is not None
    assert len(keys) == 1
    # What has just changed is read once more: it may change again within a tick of the clock.
    wait_until(lambda: source.read_if_changed() is None, "nothing new")
    assert 0 <= source.age_s < 60
    source.ask()  # nothing comes of it
    path.write_bytes(TWO)
    assert len(source.read_if_changed() or ()) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (ONE[:-1], "it is no JSON"),
        (b" " * KEY_SET_BYTES_MAX + ONE, "a key set has at most 262,144 bytes"),
    ],
)
def test_a_file_that_is_no_set_is_told_of_until_it_is_one(
    tmp_path: Path, text: bytes | None, told: str
) -> None:
    """Each look says so, and the age of the last good look grows; then the set is taken."""
    path = tmp_path / "jwks.json"
    path.write_bytes(ONE)
    source = KeySetFile(str(path))
    source.read_if_changed()
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    before = source.age_s
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"^{path}: .*{told}"):
            source.read_if_changed()
    assert source.age_s > before
    path.write_bytes(TWO)
    assert len(source.read_if_changed() or ()) == 2


@pytest.fixture(name="memory_fd")
def fixture_memory_fd() -> Iterator[int]:
    """A memory as the supervisor makes it."""
    fd = make_memory()
    yield fd
    os.close(fd)


@pytest.fixture(name="wanted_fd")
def fixture_wanted_fd() -> Iterator[int]:
    """What the supervisor waits at."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def test_a_worker_has_what_the_supervisor_wrote(memory_fd: int, wanted_fd: int) -> None:
    """Each set once; written again it is as fresh as new, and not read again."""
    source = KeySetMemory(memory_fd, wanted_fd)
    assert source.read_if_changed() is None
    assert source.age_s == math.inf
    write_memory(memory_fd, ONE)
    assert len(source.read_if_changed() or ()) == 1
    assert source.read_if_changed() is None
    os.pwrite(memory_fd, (time.monotonic_ns() - 10**12).to_bytes(8, "little"), 0)
    assert source.age_s >= 1_000
    write_memory(memory_fd, ONE)
    assert source.age_s < 1_000
    assert source.read_if_changed() is None
    write_memory(memory_fd, TWO)
    assert len(source.read_if_changed() or ()) == 2
    assert len(KeySetMemory(memory_fd, wanted_fd).read_if_changed() or ()) == 2


def test_a_set_that_is_being_written_is_none_yet(memory_fd: int, wanted_fd: int) -> None:
    """Whatever part of it is there already: its hash is wrong until all is."""
    write_memory(memory_fd, ONE)
    source = KeySetMemory(memory_fd, wanted_fd)
    source.read_if_changed()
    whole = make_memory()
    write_memory(whole, TWO)
    image = os.pread(whole, 48 + len(TWO), 0)
    os.close(whole)
    for end in (8, 16, 30, 48, 100, len(image) - 1):
        os.pwrite(memory_fd, image[:end], 0)
        assert source.read_if_changed() is None, end
    os.pwrite(memory_fd, image, 0)
    assert len(source.read_if_changed() or ()) == 2


def test_a_worker_asks_without_waiting(memory_fd: int, wanted_fd: int) -> None:
    """However often: the supervisor sees that somebody has."""
    source = KeySetMemory(memory_fd, wanted_fd)
    for _ in range(3):
        source.ask()
    assert os.eventfd_read(wanted_fd) == 3
    os.eventfd_write(wanted_fd, 2**64 - 2)
    source.ask()
    assert os.eventfd_read(wanted_fd) == 2**64 - 2
