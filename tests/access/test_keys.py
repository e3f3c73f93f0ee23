"""The key file: what may stand in it, how it is changed, and whose key a word is."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.table import each
from zerocopy.access.keys import (
    FILE_BYTES_MAX,
    KEY_BYTES_MAX,
    Keys,
    add_key,
    permission_warning,
    read_keys,
    revoke_key,
)
from zerocopy.core.access import Allowance, Scope
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HASH = hashlib.sha256(b"zc_x").hexdigest()
GOOD = {"name": "desk", "sha256": HASH, "created": "2026-11-30T12:00:00Z"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a key file is to be."""
    return str(tmp_path / "keys.json")


def write(path: str, *entries: dict[str, Any], mode: int = 0o600) -> None:
    """A key file by hand."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"keys": entries}, file)
    os.chmod(path, mode)


def refusal(path: str) -> str:
    """Why a file is refused, on one line."""
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_key_is_made_once_and_only_its_hash_is_kept(path: str) -> None:
    """256 bits by the kernel, a prefix that scanners find, and nothing of it in the file."""
    key = add_key(path, "desk")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert key.startswith("zc_")
    assert len(key) == len("zc_") + 43
    assert key not in text
    assert key[3:] not in text
    (entry,) = read_keys(path)
    assert entry.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert add_key(path, "other") != key


def test_new_file_is_its_owners_alone_and_a_changed_one_keeps_its_mode(path: str) -> None:
    """Whatever umask says; what the operator chose stays."""
    before = os.umask(0)
    try:
        add_key(path, "desk")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        os.chmod(path, 0o640)
        add_key(path, "other")
        revoke_key(path, "desk")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert os.listdir(os.path.dirname(path)) == ["keys.json"]


def test_scope_and_limits_come_back_as_they_were_given(path: str) -> None:
    """What is left out is everything, and what the configuration says."""
    scope = Scope(("coinbase",), ("BTC-*", "tAAVE:USD"), ("MD",))
    add_key(path, "desk", scope=scope, requests_per_s=5, bytes_per_day=6, streams=7)
    add_key(path, "all")
    desk, everybody = read_keys(path)
    assert desk.scope == scope
    assert (desk.requests_per_s, desk.bytes_per_day, desk.streams) == (5, 6, 7)
    assert everybody.scope == Scope()
    keys = Keys(Allowance(1, 2, None))
    granted = {grant.name: grant for grant in keys.take(keys.compare((desk, everybody))).added}
    assert granted["desk"].allowance == Allowance(5, 6, 7)
    assert granted["all"].allowance == Allowance(1, 2, None)


@each(
    ("name", "scope", "words"),
    [
        ("", Scope(), "name"),
        ("a b", Scope(), "name"),
        ("a\nb", Scope(), "name"),
        ("(others)", Scope(), "name"),
        ("x" * 65, Scope(), "name"),
        ("a", Scope(symbols=("",)), "pattern"),
        ("a", Scope(symbols=("A,B",)), "pattern"),
        ("a", Scope(types=("x" * 65,)), "pattern"),
    ],
)
def test_what_can_never_be_a_key_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, scope: Scope, words: str
) -> None:
    """One line that says what would be right; no file."""
    path = str(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=words) as caught:
        add_key(path, name, scope=scope)
    assert "\n" not in caught.value.detail
    assert not os.path.exists(path)


def test_name_is_given_once_and_none_is_revoked_that_is_not_there(path: str) -> None:
    """The file stays as it was."""
    add_key(path, "desk")
    before = read_keys(path)
    with pytest.raises(ConfigError, match="there is a key named desk"):
        add_key(path, "desk")
    with pytest.raises(ConfigError, match="no key named 'nobody'"):
        revoke_key(path, "nobody")
    assert read_keys(path) == before


def test_nothing_is_lost_when_many_add_at_once(path: str) -> None:
    """Each change reads what the one before wrote: flock(2)."""
    threads = [threading.Thread(target=add_key, args=(path, f"key{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in read_keys(path)} == {f"key{n}" for n in range(16)}


def test_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path, path: str) -> None:
    """Configuration is often linked to where it is kept."""
    link = str(tmp_path / "link.json")
    os.symlink(path, link)
    add_key(link, "desk")
    assert os.path.islink(link)
    assert [entry.name for entry in read_keys(path)] == ["desk"]


@each(
    ("entries", "words"),
    [
        ([{**GOOD, "sha256": "0" * 63}], "sha256"),
        ([{**GOOD, "sha256": HASH.upper()}], "sha256"),
        ([{**GOOD, "name": "a b"}], "name"),
        ([{**GOOD, "symbols": []}], "symbols"),
        ([{**GOOD, "symbols": "*"}], "symbols"),
        ([{**GOOD, "symbols": ["a b"]}], "symbols"),
        ([{**GOOD, "symbols": ["*"] * 257}], "symbols"),
        ([{**GOOD, "streams": 0}], "streams"),
        ([{**GOOD, "symbol": ["*"]}], "symbol"),
        ([{"name": "desk", "sha256": HASH}], "created"),
        ([GOOD, {**GOOD, "name": "other"}], "the same sha256"),
        ([GOOD, {**GOOD, "sha256": "0" * 64}], "the same name"),
    ],
)
def test_file_with_a_wrong_entry_is_refused_whole(
    tmp_path: Path, entries: list[dict[str, Any]], words: str
) -> None:
    """A misspelt field must not open more than was meant."""
    path = str(tmp_path / "keys.json")
    write(path, *entries)
    told = refusal(path)
    assert words in told
    assert path in told


def test_file_that_is_none_is_refused_in_a_line(path: str) -> None:
    """Missing, no JSON, no text, too large, a directory, a pipe: none of them is waited for."""
    assert "zerocopy keys add" in refusal(path)
    for content in (b"", b"{", b"\xff", b"[]", b'{"key":[]}'):
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o600)
        assert "not a key file" in refusal(path)
    os.truncate(path, FILE_BYTES_MAX + 1)
    assert "longer" in refusal(path)
    os.unlink(path)
    os.mkfifo(path, 0o600)
    assert "regular" in refusal(path)
    os.unlink(path)
    os.mkdir(path)
    refusal(path)


@each(
    ("mode", "is_refused", "is_told"),
    [
        (0o600, False, False),
        (0o400, False, False),
        (0o640, False, False),
        (0o644, False, True),
        (0o620, True, False),
        (0o602, True, False),
        (0o666, True, True),
    ],
)
def test_file_that_others_may_write_is_refused_and_one_that_all_may_read_is_told_of(
    tmp_path: Path, *, mode: int, is_refused: bool, is_told: bool
) -> None:
    """Who may write it may ask for everything; who may read it learns names, and no key."""
    path = str(tmp_path / "keys.json")
    write(path, GOOD, mode=mode)
    if is_refused:
        assert f"chmod 600 {path}" in refusal(path)
    else:
        assert read_keys(path)
    assert (permission_warning(path) is not None) == is_told


def test_key_is_found_by_all_of_it_and_by_nothing_else(path: str) -> None:
    """No prefix, no other case, no hash of it, nothing longer than a key can be."""
    key = add_key(path, "desk").encode()
    (entry,) = read_keys(path)
    keys = Keys(Allowance())
    keys.take(keys.compare((entry,)))
    found = keys.find(key)
    assert found is not None
    assert found.name == "desk"
    for word in (b"", key[:-1], key + b"x", key.swapcase(), entry.sha256.encode(), b"desk"):
        assert keys.find(word) is None
    assert keys.find(key + b"x" * KEY_BYTES_MAX) is None


def test_reading_that_changes_nothing_keeps_the_same_grants(path: str) -> None:
    """So heads that were seen before and streams go on; whose entry changed gets another grant."""
    key = add_key(path, "desk").encode()
    other = add_key(path, "other").encode()
    keys = Keys(Allowance())
    keys.take(keys.compare(read_keys(path)))
    desk, before = keys.find(key), keys.find(other)
    change = keys.take(keys.compare(read_keys(path)))
    assert change == ([], [])
    assert keys.find(key) is desk
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)["keys"]
    entries[1]["symbols"] = ["BTC-*"]
    write(path, *entries)
    change = keys.take(keys.compare(read_keys(path)))
    assert keys.find(key) is desk
    assert change.gone == [before]
    assert change.added == [keys.find(other)]
    revoke_key(path, "desk")
    assert keys.take(keys.compare(read_keys(path))).gone == [desk]
    assert keys.find(key) is None
    assert len(keys) == 1
