"""The way down from the root: no link followed, nothing but regular files, every errno a kind."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.storage.trees import (
    SERIES,
    bench,
    folder,
    marks,
    path_of,
    put,
    u32,
)
from zerocopy.core.errors import DataError, NotFoundError, OverloadError, ZerocopyError
from zerocopy.storage.tree import Series, data_error, open_file, open_root, open_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> str:
    """One day of one series, in a directory below a place that may hold other things."""
    root = str(tmp_path / "root")
    put(root, {"time": u32(1_738_281_600), "price": marks(1)})
    return root


def test_open_series_gives_a_directory_that_can_be_listed(root: str) -> None:
    """The descriptor is of the type's directory, and closed when the block ends."""
    before = held_files()
    with open_series(root, SERIES) as fd:
        assert sorted(os.listdir(fd)) == sorted(os.listdir(folder(root)))
    assert not held_files() - before
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_open_series_symbolic_link_at_any_level_is_not_found(
    root: str, tmp_path: Path, depth: int, *, inside: bool
) -> None:
    """Exchange, symbol or type as a link is as good as absent, wherever it leads."""
    path = os.path.join(root, *SERIES[:depth])
    target = (root if inside else str(tmp_path)) + "/moved"
    os.rename(path, target)
    os.symlink(target, path)
    before = held_files()
    with pytest.raises(NotFoundError, match=SERIES._fields[depth - 1]), open_series(root, SERIES):
        pytest.fail("a link was followed")
    assert not held_files() - before


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_open_series_plain_file_at_any_level_is_not_found(root: str, depth: int) -> None:
    """A file where a directory should be is not found."""
    path = os.path.join(root, *SERIES[:depth])
    os.rename(path, root + ".moved")
    with open(path, "wb"):
        pass
    with pytest.raises(NotFoundError), open_series(root, SERIES):
        pytest.fail("a file was entered")


def test_open_series_fifo_for_a_directory_does_not_hang(root: str) -> None:
    """A fifo under a directory's name is not found, at once."""
    os.rename(folder(root), root + ".moved")
    os.mkfifo(folder(root))
    with pytest.raises(NotFoundError), open_series(root, SERIES):
        pytest.fail("a fifo was entered")


def test_open_series_root_may_be_a_link(root: str, tmp_path: Path) -> None:
    """What the operator points at may be a link; only below it none is followed."""
    link = str(tmp_path / "link")
    os.symlink(root, link)
    with open_series(link, SERIES) as fd:
        assert os.listdir(fd)


def test_open_root_missing_is_a_data_error(tmp_path: Path) -> None:
    """A root that is not there, or is a file, is the operator's fault."""
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "none"):
        with pytest.raises(DataError), open_root(str(tmp_path / name)):
            pytest.fail("there is no such directory")


def test_open_file_gives_descriptor_and_status(root: str) -> None:
    """The status is of the file that the descriptor reads."""
    with open_series(root, SERIES) as directory_fd:
        fd, status = open_file(directory_fd, os.path.basename(path_of(root, "time")))
    assert os.pread(fd, 99, 0) == u32(1_738_281_600)
    assert (status.st_size, status.st_ino) == (4, os.fstat(fd).st_ino)
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("kind", ["missing", "link", "dangling", "fifo", "directory"])
def test_open_file_what_is_no_regular_file_is_absent(root: str, kind: str) -> None:
    """A link, a fifo or a directory is treated as no file at all, at once and without a leak."""
    path = path_of(root, "side")
    if kind == "link":
        os.symlink(path_of(root, "time"), path)
    elif kind == "dangling":
        os.symlink("/nowhere/at/all", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    with open_series(root, SERIES) as directory_fd:
        before = held_files()
        with pytest.raises(FileNotFoundError):
            open_file(directory_fd, os.path.basename(path))
        assert not held_files() - before


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "socket"])
def test_plan_what_is_no_regular_file_makes_the_day_lack_the_column(root: str, kind: str) -> None:
    """Through the planner: the day is skipped, nothing hangs, nothing is read through a link."""
    path = path_of(root, "price")
    os.unlink(path)
    if kind == "link":
        os.symlink(path_of(root, "time"), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener, open_series(root, SERIES) as fd:
            listener.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
    with bench(root) as opened, pytest.raises(NotFoundError, match="column price"):
        opened.plan()


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.EMFILE, OverloadError),
        (errno.ENFILE, OverloadError),
        (errno.ENOMEM, OverloadError),
        (errno.EACCES, DataError),
        (errno.EIO, DataError),
        (errno.ESTALE, DataError),
    ],
)
def test_open_any_other_errno_is_ours_and_not_the_clients(
    root: str, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[ZerocopyError]
) -> None:
    """Out of descriptors is 503, unreadable is 500; the detail names no path and no errno."""
    error = OSError(number, os.strerror(number), root)
    assert type(data_error(error)) is raised
    system_open = os.open
    refused = [""]

    def call(path: str, *args: Any, **kwargs: Any) -> int:
        if path == refused[0]:
            raise OSError(number, os.strerror(number), path)
        return system_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", call)
    before = held_files()
    for refused[0] in (root, *SERIES, "time.31.01.25.bin"):
        with pytest.raises(raised) as caught, open_series(root, SERIES) as directory_fd:
            open_file(directory_fd, "time.31.01.25.bin")
        assert root not in caught.value.detail
        assert os.strerror(number) not in caught.value.detail
        assert not held_files() - before


def test_open_series_names_of_64_characters_exist_or_do_not(root: str) -> None:
    """The longest legal name is an ordinary one."""
    with pytest.raises(NotFoundError), open_series(root, Series("coinbase", "x" * 64, "MD")):
        pytest.fail("nobody made it")
    put(root, {"time": b""}, series=Series("e" * 64, "s" * 64, "t" * 64))
    with open_series(root, Series("e" * 64, "s" * 64, "t" * 64)) as fd:
        assert len(os.listdir(fd)) == 1
