"""A key file that is looked at again: each change is seen, and what is unchanged is not read."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from zerocopy.access import key_file
from zerocopy.access.key_file import KeyFile
from zerocopy.access.keys import add_key, revoke_key
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with one key."""
    path = str(tmp_path / "keys.json")
    add_key(path, "desk")
    return path


def settle(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the last change of the file one of long ago, as its reader sees it."""
    later_ns = os.stat(path).st_ctime_ns + 10 * key_file.RACY_NS
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)


def names(file: KeyFile) -> list[str] | None:
    """The names that one look gives, None where nothing changed."""
    entries = file.read_if_changed()
    return None if entries is None else [entry.name for entry in entries]


def test_unchanged_file_is_read_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs one stat(2)."""
    settle(path, monkeypatch)
    file = KeyFile(path)
    assert names(file) == ["desk"]
    assert names(file) is None


def test_file_that_has_only_just_changed_is_read_once_more(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes in one tick of the kernel's clock have the same times."""
    monkeypatch.setattr(time, "time_ns", lambda: os.stat(path).st_ctime_ns)
    file = KeyFile(path)
    assert names(file) == ["desk"]
    assert names(file) == ["desk"]
    settle(path, monkeypatch)
    assert names(file) == ["desk"]
    assert names(file) is None


def test_each_change_is_seen(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced by a rename, or written in place with the same size and the same modification."""
    settle(path, monkeypatch)
    file = KeyFile(path)
    names(file)
    add_key(path, "other")
    assert names(file) == ["desk", "other"]
    revoke_key(path, "desk")
    assert names(file) == ["other"]
    settle(path, monkeypatch)
    names(file)
    before = os.stat(path)
    with open(path, "r+b") as opened:
        text = opened.read().replace(b"other", b"ether")
        opened.seek(0)
        opened.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(file) == ["ether"]


def test_file_that_cannot_be_read_is_told_of_at_each_look_and_read_when_it_is_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it comes back just as it was."""
    settle(path, monkeypatch)
    file = KeyFile(path)
    names(file)
    os.rename(path, path + ".away")
    for _ in range(2):
        with pytest.raises(ConfigError, match="no such key file"):
            file.read_if_changed()
    os.rename(path + ".away", path)
    assert names(file) == ["desk"]
