"""`zerocopy keys`: what is printed, where the file is, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.command_line import environment, in_text, run_forked
from tests.command_line import run as executed
from zerocopy.access.keys import Entry, Keys, read_keys
from zerocopy.commands.keys import _row
from zerocopy.core.access import Allowance, Scope

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with a configuration that sets nothing."""
    env = environment(COLUMNS="200", **environ)
    return in_text(run_forked(["keys", *arguments], env, folder=folder))


def test_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    """Printed once as the last word; found in the file by its hash; gone after its end."""
    path = str(tmp_path / "keys.json")
    shown = ("-e", "coinbase", "-s", "BTC-*", "-s", "ETH-USD", "-t", "MD", "--streams", "3")
    made = run(tmp_path, "add", "desk", "--file", path, *shown)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.count("\n") == 1
    keys = Keys(Allowance())
    keys.take(keys.compare(read_keys(path)))
    grant = keys.find(made.stdout.split()[-1].encode())
    assert grant is not None
    assert grant.scope == Scope(("coinbase",), ("BTC-*", "ETH-USD"), ("MD",))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    table = run(tmp_path, "list", ZEROCOPY_AUTH_KEYS_PATH=path).stdout
    for word in ("desk", "coinbase", "BTC-* ETH-USD", "3 streams"):
        assert word in table
    (entry,) = json.loads(run(tmp_path, "list", "--json", "-f", path).stdout)["keys"]
    assert (entry["name"], entry["streams"], entry["bytes_per_day"]) == ("desk", 3, None)
    assert read_keys(path)[0].sha256 not in table + json.dumps(entry)
    assert run(tmp_path, "revoke", "desk", "-f", path).returncode == 0
    assert read_keys(path) == ()
    again = run(tmp_path, "revoke", "desk", "-f", path)
    assert again.returncode == 1
    assert again.stderr == f"zerocopy: {path}: there is no key named 'desk'\n"


def test_one_of_a_limit_is_one() -> None:
    """The table counts as people do: 1 stream, 2 streams."""
    one = Entry(name="a", sha256="0" * 64, created="", requests_per_s=1, bytes_per_day=1, streams=1)
    assert _row(one)[-1] == "1 request/s, 1 byte/day, 1 stream"
    two = Entry(
        name="b", sha256="0" * 64, created="", requests_per_s=2, bytes_per_day=2_000, streams=2
    )
    assert _row(two)[-1] == "2 requests/s, 2,000 bytes/day, 2 streams"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("add", "desk"), 2, "--file"),
        (("add",), 2, "NAME"),
        (("add", "desk", "--streams", "0", "-f", "keys.json"), 2, "--streams"),
        (("add", "a b", "-f", "keys.json"), 1, "name"),
        (("add", "desk", "-s", "A,B", "-f", "keys.json"), 1, "pattern"),
        (("add", "desk", "-f", "none/keys.json"), 1, "none"),
        (("list", "-f", "keys.json"), 1, "zerocopy keys add"),
        (("revoke", "desk", "-f", "keys.json"), 1, "no such key file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """2 for usage, 1 for the rest; nothing is printed or written."""
    done = run(tmp_path, *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert os.listdir(tmp_path) == []


def test_key_that_nobody_saw_is_not_kept(tmp_path: Path) -> None:
    """Standard output is full: the key would be in the file, and nowhere else."""
    path = str(tmp_path / "keys.json")
    with open("/dev/full", "wb") as full:
        done = executed(["keys", "add", "desk", "--file", path], stdout=full.fileno())
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert read_keys(path) == ()
