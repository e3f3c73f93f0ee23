"""The file system below the root goes and comes back, in a mount namespace of the server's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import body_of, target_of, write_series
from tests.faults.download import (
    BOTH_LISTENERS,
    EVERY_WAY,
    Download,
    End,
    download,
    expect,
    started_by,
)
from tests.server import Answer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = 1_500_000
UNSHARE = ("unshare", "--mount", "--propagation", "private")
TARGET = target_of("MD", "price")


class Disk:
    """A tmpfs at the server's root that can be mounted and taken away, and what it holds."""

    def __init__(self, server: RunningServer, root: Path) -> None:
        self.server, self._root = server, root
        self.seen = f"/proc/{server.pid}/root{root}"
        """The root as the server sees it."""

    def mount(self) -> bytes:
        """A new file system with new records; the right answer."""
        self._run("mount", "-t", "tmpfs", "none", str(self._root))
        write_series(self.seen, "MD", RECORDS)
        return body_of(self.seen, "MD", ["price"])

    def unmount(self) -> None:
        """At once, although the server has files open there (umount2(2), MNT_DETACH)."""
        self._run("umount", "--lazy", str(self._root))

    def _run(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.server.pid), "-m", *command], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A server whose root is an empty directory, the mount point."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("unshare and nsenter are not installed")
    tried = subprocess.run(
        [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"mounting is not permitted here: {tried.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("mounted")
    root = folder / "root"
    root.mkdir()
    with started_by(folder, *UNSHARE), RunningServer(root, **BOTH_LISTENERS) as server:
        assert os.readlink(f"/proc/{server.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
        yield Disk(server, root)


@EVERY_WAY
def test_root_unmounted_amid_a_transfer_and_mounted_anew(disk: Disk, way: str) -> None:
    """What was promised arrives or is cut off; then nothing is there; then the new disk."""
    old = disk.mount()
    assert download(disk.server, way, TARGET) == End(old, is_whole=True)
    with Download(disk.server, way) as under_way:
        under_way.begin(TARGET)
        disk.unmount()
        missing = download(disk.server, way, TARGET)
        expect(under_way.end(), old)
    assert isinstance(missing, Answer)
    assert missing.status == 404
    assert disk.server.get("/api/symbols").content == b'{"symbols":[],"exchanges":{}}'
    new = disk.mount()
    assert new != old
    assert len(new) == len(old)
    assert download(disk.server, way, TARGET) == End(new, is_whole=True)
    assert disk.server.get("/readyz").status == 200
    disk.unmount()
    assert disk.server.event("worker_died") is None


@EVERY_WAY
def test_disk_mounted_over_the_root_amid_a_transfer_is_never_mixed(disk: Disk, way: str) -> None:
    """Another file system with the same names, sizes and perhaps inode numbers takes its place."""
    old = disk.mount()
    with Download(disk.server, way) as under_way:
        under_way.begin(TARGET)
        new = disk.mount()
        assert download(disk.server, way, TARGET) == End(new, is_whole=True)
        expect(under_way.end(), old)
    disk.unmount()
    assert download(disk.server, way, TARGET) == End(old, is_whole=True)
    disk.unmount()
    assert disk.server.event("worker_died") is None
