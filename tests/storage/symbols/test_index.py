"""The index of symbols is held to the walk: after any change, at every bound, with no tree."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.descriptors import held_files
from tests.storage.symbols.test_walk import touch
from tests.storage.vandal import Vandal
from zerocopy.core.errors import DataError
from zerocopy.storage.symbols import index as symbolindex
from zerocopy.storage.symbols import watched as symboltree
from zerocopy.storage.symbols.index import SymbolIndex
from zerocopy.storage.symbols.walk import list_symbols, symbols_document
from zerocopy.storage.watch import inotify
from zerocopy.storage.watch.inotify import InotifyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIN = "coinbase/X/MD/time.01.01.25.bin"
WRITER = """
import os, sys
while sys.stdin.readline():
    with open(sys.argv[1], "ab") as file:
        file.write(b"1234")
    os.utime(sys.argv[1], (int(sys.argv[2]), int(sys.argv[2])))
    sys.argv[2] = str(int(sys.argv[2]) + 1)
    print(flush=True)
"""


class Scene:
    """A root, an index over it, and what it said."""

    def __init__(self, root: str, watched_directories_max: int = 100) -> None:
        self.root = root
        self.told: list[str] = []
        self.index = SymbolIndex(root, watched_directories_max, self.told.append)

    def check(self) -> bytes:
        """The answer for all and for one exchange is that of a walk; the first of them."""
        found = self.index.documents([None, "coinbase", "nowhere"])
        for exchange, document in found.items():
            walked = symbols_document(list_symbols(self.root, exchange))
            assert document == orjson.dumps(walked), exchange
        whole = found[None]
        assert isinstance(whole, bytes)
        return whole


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One symbol, asked for once."""
    root = str(tmp_path / "root")
    touch(root, BIN)
    scene = Scene(root)
    scene.check()
    yield scene
    scene.index.close()


@pytest.mark.parametrize("seed", range(3))
def test_any_changes_leave_the_answer_of_the_walk(tmp_path: Path, seed: int) -> None:
    """Some hundreds of random changes, asked for after every few."""
    rng = random.Random(seed)
    root, away = tmp_path / "root", tmp_path / "away"
    root.mkdir()
    away.mkdir()
    scene, vandal = Scene(str(root), 1_000), Vandal(rng, str(root), str(away))
    try:
        for _ in range(120):
            for _ in range(rng.choice([1, 1, 2, 5])):
                vandal.act()
            if rng.random() < 0.1:
                scene.index.maintain()
            scene.check()
        tree = scene.index._tree
        assert tree is not None
        with open(f"/proc/self/fdinfo/{tree._inotify._fd}", encoding="ascii") as file:
            assert file.read().count("inotify wd") == len(tree._watched)
    except AssertionError:
        raise AssertionError("\n".join(vandal.log[-10:])) from None
    finally:
        vandal.close()
        scene.index.close()


def test_repeated_answers_walk_once(scene: Scene) -> None:
    """Appends, new symbols and removed ones are learned from events alone."""
    for second in range(20):
        touch(scene.root, BIN, 1_000 + second)
        touch(scene.root, f"kraken/S{second}/MD/x.bin")
        scene.check()
    os.unlink(os.path.join(scene.root, BIN))
    assert b'"X"' not in scene.check()
    assert scene.index.walks == 1


def test_what_another_process_flushed_is_in_the_next_answer(scene: Scene) -> None:
    """Two hundred appends, each asked for as soon as the writer says that it was made."""
    command = [sys.executable, "-c", WRITER, os.path.join(scene.root, BIN), "5000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for second in range(5_000, 5_200):
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            writer.stdout.readline()
            document = scene.index.documents([None])[None]
            assert isinstance(document, bytes)
            assert b'"last_update":%d,' % second in document
        writer.stdin.close()
    assert scene.index.walks == 1


def test_more_events_than_the_queue_holds_make_a_new_tree(scene: Scene) -> None:
    """What was lost is read again."""
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        events_max = int(file.read())
    if events_max > 100_000:
        pytest.skip(f"the queue holds {events_max} events")
    paths = [touch(scene.root, f"coinbase/X/MD/{name}.bin") for name in "ab"]
    for second in range(events_max // 2 + 10):
        for path in paths:  # in turns: equal events in a row are one
            os.utime(path, (second, second))
    scene.check()
    assert scene.index.walks == 2
    scene.check()
    assert scene.index.walks == 2


def test_queue_that_fills_is_drained_between_requests(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read meanwhile is not forgotten, and too much of it makes a new tree."""
    monkeypatch.setattr(symbolindex, "DRAINED_AT_BYTES", 1)
    touch(scene.root, BIN, 77)
    scene.index.maintain()
    assert scene.index._tree is not None
    assert scene.index._tree.queued_bytes() == 0
    assert b'"last_update":77' in scene.check()
    monkeypatch.setattr(symboltree, "_PENDING_MAX", 1)
    touch(scene.root, BIN, 78)
    touch(scene.root, "coinbase/X/MD/other.bin", 79)
    scene.index.maintain()
    assert scene.index.watched_directories == 0
    assert b'"last_update":79' in scene.check()


def test_tree_that_nobody_asks_for_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptors are given back, and the next request makes a new one."""
    touch(str(tmp_path), BIN)
    scene, before = Scene(str(tmp_path)), held_files()
    scene.check()
    of_the_tree = held_files() - before
    assert len(of_the_tree) == 2
    scene.index.maintain()
    assert scene.index.watched_directories == 4
    monkeypatch.setattr(symbolindex, "DISUSED_S", -1.0)
    scene.index.maintain()
    assert scene.index.watched_directories == 0
    assert not held_files() & of_the_tree
    scene.check()
    assert scene.index.watched_directories == 4
    scene.index.close()


@pytest.mark.parametrize("bound", [0, 3, 4])
def test_watched_directories_max(tmp_path: Path, bound: int) -> None:
    """Root, exchange, symbol and type fit into four; below that each request walks."""
    root = str(tmp_path)
    touch(root, BIN)
    scene = Scene(root, bound)
    before = held_files()
    for second in range(3):
        touch(root, BIN, second)
        scene.check()
    assert scene.index.watched_directories == (4 if bound == 4 else 0)
    assert len(scene.told) == (1 if bound == 3 else 0)
    scene.index.close()
    assert not held_files() - before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.ENOMEM])
def test_watch_that_the_system_refuses_is_told_once_and_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The answers are those of the walk, and nothing stays open."""
    root = str(tmp_path)
    touch(root, BIN)

    def refuse(*_: Any) -> int:
        raise InotifyError(code, os.strerror(code))

    monkeypatch.setattr(inotify.Inotify, "add", refuse)
    monkeypatch.setattr(symbolindex, "RETRY_S", 0.0)
    scene, before = Scene(root), held_files()
    scene.check()
    scene.check()
    assert len(scene.told) == 1
    assert not held_files() - before


def test_file_system_that_is_not_known_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as NFS: files change there without an event."""
    monkeypatch.setattr(symboltree, "filesystem_type", lambda _fd: 0x6969)
    root = str(tmp_path)
    touch(root, BIN)
    scene = Scene(root)
    scene.check()
    assert scene.index.watched_directories == 0
    assert "0x6969" in scene.told[0]


def test_root_that_is_replaced_or_gone_is_noticed(scene: Scene) -> None:
    """Another directory under its name is another tree; none is an error, and then it is back."""
    other = f"{scene.root}.other"
    touch(other, "kraken/Y/MD/x.bin")
    os.rename(scene.root, f"{scene.root}.old")
    assert isinstance(scene.index.documents([None])[None], DataError)
    os.rename(other, scene.root)
    assert b'"kraken"' in scene.check()
    os.rename(scene.root, other)
    os.rename(f"{scene.root}.old", scene.root)
    assert b'"kraken"' not in scene.check()


def test_file_with_two_names_is_asked_for_under_both(scene: Scene) -> None:
    """A write through one name in the root shows under the other; so does one from outside."""
    path = os.path.join(scene.root, BIN)
    touch(scene.root, "kraken/Y/MD/old.bin", 1)
    scene.check()
    os.link(path, os.path.join(scene.root, "kraken/Y/MD/x.bin"))
    outside = f"{scene.root}.outside"
    os.link(path, outside)
    scene.check()
    for name in (path, outside, os.path.join(scene.root, "kraken/Y/MD/x.bin")):
        with open(name, "ab") as file:
            file.write(b"1234")
        os.utime(name, (os.stat(name).st_size, os.stat(name).st_size))
        scene.check()
    walks = scene.index.walks
    scene.check()
    assert scene.index.walks == walks


def test_error_of_a_directory_drops_the_tree(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request fails as a walk would, and the next one knows everything again."""
    system = os.stat

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    touch(scene.root, BIN, 50)
    monkeypatch.setattr(os, "stat", fail)
    found = scene.index.documents([None])[None]
    monkeypatch.setattr(os, "stat", system)
    assert isinstance(found, DataError)
    assert b'"last_update":50' in scene.check()
