"""What goes wrong with a command is one line on standard error, whichever command it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.command_line import ENDED_BY_THEIR_READER, EVERY_COMMAND, Place, make_root, run
from tests.server import ForkedServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

LATEST_S = 253_402_300_799
"""The last second of the year 9999."""

SLOW = pytest.mark.slow
WILD_S = 1 << 62
NS = 1_000_000_000
WILD = {
    "LATE": (LATEST_S + 1, "9999-12-31 23:59:59"),
    "NEVER": (WILD_S, "9999-12-31 23:59:59"),
    "EARLY": (-1, "1969-12-31 23:59:59"),
    "BEFORE": (-WILD_S, "0001-01-01 00:00:00"),
}
"""Modification times by symbol, and the dates that are told."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server to ask."""
    root = tmp_path_factory.mktemp("data")
    make_root(root)
    with ForkedServer(root) as server:
        yield Place(root, server, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory of tmpfs, which keeps times of 64 bits."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        os.utime(path, ns=(0, WILD_S * NS))
        if os.stat(path).st_mtime_ns != WILD_S * NS:
            pytest.skip("/dev/shm is no tmpfs: it does not keep times of 64 bits")
        yield Path(path)


def assert_failed(done: subprocess.CompletedProcess[bytes], *words: bytes) -> None:
    """Exit code 1, and one line that has the words."""
    assert done.stderr.startswith(b"zerocopy: "), done.stderr
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_output_that_cannot_be_written_is_an_error_of_one_line(place: Place, command: str) -> None:
    """A full disk loses what was asked for, so the command has failed."""
    with open("/dev/full", "wb") as full:
        done = place.run(command, stdout=full)
    assert_failed(done, b"standard output: No space left on device")


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_output_that_nobody_reads_any_more_is_an_error_of_one_line(
    place: Place, command: str
) -> None:
    """As in `zerocopy symbols | head -n 1`; what only prints records ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = place.run(command, stdout=writer)
    finally:
        os.close(writer)
    if command in ENDED_BY_THEIR_READER:
        assert (done.returncode, done.stderr) == (0, b"")
    else:
        assert_failed(done, b"standard output: Broken pipe")


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_output_in_an_encoding_that_lacks_a_character_is_escaped(
    place: Place, command: str
) -> None:
    """A narrow table is cut with an ellipsis, which latin-1 has not."""
    environ = place.environment(PYTHONIOENCODING="latin-1", COLUMNS="20")
    done = place.run(command, env=environ)
    assert done.returncode == 0 or "doctor" in command
    assert (done.stderr, done.stdout != b"") == (b"", True)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_no_encoding_has_are_escaped(
    place: Place, tmp_path: Path, encoding: str
) -> None:
    """A directory whose name is not UTF-8 is named all the same."""
    environ = place.environment(PYTHONIOENCODING=encoding)
    made = os.fsencode(tmp_path) + b"/\xff\xc3\xa9"
    done = run(["generate", os.fsdecode(made), "--days=1", "--records=10"], env=environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\udcff" in done.stdout


@pytest.mark.parametrize("stream", ["full", "closed"])
def test_error_that_cannot_be_told_is_an_exit_code(stream: str) -> None:
    """Where standard error is full or gone too, the code is all there is."""
    path = "/dev/full" if stream == "full" else os.devnull
    with open(path, "r+b" if stream == "closed" else "wb") as file:
        for arguments, code in ((["query", "NONE", "MD", "0", "1", "time"], 1), (["sevre"], 2)):
            done = run(arguments, stdout=file, stderr=file)
            assert done.returncode == code


def test_fault_of_ours_is_one_line_that_names_its_place(place: Place, tmp_path: Path) -> None:
    """What nobody thought of is told like any other error."""
    code = (
        "import os, zerocopy.config.load as c\n\ndef load(*a, **b): return 1 // 0\nc.load = load\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    done = place.run("symbols", env=place.environment(PYTHONPATH=str(tmp_path)))
    assert_failed(done, b"ZeroDivisionError", b"sitecustomize.py:3")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"a = " + b"[" * 5_000 + b"]" * 5_000, b"nested"),
        pytest.param(b"a = " + b"{a=" * 5_000 + b"1" + b"}" * 5_000, b"nested", marks=SLOW),
        (b"[server]\nport = " + b"9" * 5_000, b"digits"),
        pytest.param(b"[server]\nport = " + b"9" * 4_000, b"port", marks=SLOW),
        pytest.param(b"[data]\npath = 'a\x00b'", b"line 2", marks=SLOW),
        (b'[data]\npath = "a\\u0000b"', b"path"),
        pytest.param(b"\xff\xfe", b"utf-8", marks=SLOW),
        (b"#" * 2_000_000, b"1,048,576"),
    ],
    ids=["arrays", "tables", "digits", "number", "nul", "escaped nul", "not utf-8", "too long"],
)
def test_config_that_no_parser_likes_is_an_error_of_one_line(
    tmp_path: Path, content: bytes, word: bytes
) -> None:
    """Nothing in the file ends a command otherwise."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert_failed(run(["serve", "--config", str(path)]), bytes(path), word)


def test_config_that_is_no_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    """A directory has no options, and a device has no end."""
    for path, word in ((str(tmp_path), "directory"), ("/dev/zero", "1,048,576")):
        assert_failed(run(["check-config", "--config", path]), path.encode(), word.encode())


def test_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Editors of Windows write one before the first table."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[limits]\ndays_max = 77\n")
    done = run(["check-config", "--config", str(path)])
    assert b"limits.days_max\t77\t" in done.stdout


def test_times_of_files_that_no_calendar_has_end_nothing(memory: Path) -> None:
    """A file with a wild time takes the list of symbols from nobody; dates end with year 9999."""
    make_root(memory)
    for symbol, (modified_s, _) in WILD.items():
        folder = f"{memory}/coinbase/{symbol}/MD"
        shutil.copytree(f"{memory}/coinbase/BTC-USD/MD", folder)
        for name in os.listdir(folder):
            os.utime(f"{folder}/{name}", ns=(0, modified_s * NS))
            assert os.stat(f"{folder}/{name}").st_mtime_ns == modified_s * NS
    for command in (["symbols"], ["symbols", "--json"]):
        done = run([*command, "-d", str(memory)])
        assert (done.returncode, done.stderr) == (0, b"")
        for _, date in WILD.values():
            assert date.encode() in done.stdout
    with ForkedServer(memory) as server:
        answer = server.get("/api/symbols").content.decode()
        for symbol, (modified_s, date) in WILD.items():
            last = f'"last_update":{modified_s},"last_update_date":"{date} UTC"'
            assert f'{{"symbol":"{symbol}",{last}}}' in answer
            target = f"/api/data?symbol={symbol}&type=MD&start=0&end=86399&columns=time,price"
            assert server.get(target).status == 200


def test_arguments_that_are_no_text_are_an_error_of_one_line(place: Place) -> None:
    """A terminal may send any byte."""
    odd = os.fsdecode(b"\xff")
    done = run(["query", odd, "MD", "0", "1", "time"], env=place.environment())
    assert_failed(done, b"symbol")
