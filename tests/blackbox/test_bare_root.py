"""A root without /proc or without /dev/null, as a chroot may be: what is missing is named."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.certificate import certificate_files
from tests.command_line import ZEROCOPY, environment, make_root
from tests.server import RunningServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import Answer

LARGE = 1_000_000
"""Records of a column: more than is read into memory for one answer."""


def without(folder: str) -> list[str]:
    """What executes a command with an empty directory in place of this one."""
    return ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh"]


def can_mount() -> bool:
    """Whether this user may make a mount namespace."""
    try:
        done = subprocess.run([*without("/mnt"), "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The sample data, and a configuration that is no device."""
    make_root(tmp_path / "data")
    (tmp_path / "config.toml").touch()
    return tmp_path / "data"


def config_of(root: Path) -> dict[str, str]:
    """Where the configuration is: /dev/null may not be there."""
    return {"ZEROCOPY_CONFIG": str(root.parent / "config.toml")}


def run_without(folder: str, root: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    done = subprocess.run(
        [*without(folder), *ZEROCOPY, *arguments],
        env=environment(DATA_PATH=str(root), **{**config_of(root), **environ}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def ask(server: RunningServer) -> Answer:
    """All data of the sample."""
    return server.get("/api/data?symbol=BTC-USD&type=MD&start=0&end=86399&columns=time,price")


@pytest.mark.parametrize("folder", ["/proc", "/dev"])
def test_plain_server_goes_on_without(root: Path, folder: str) -> None:
    """It needs neither to answer."""
    with RunningServer(root, under=without(folder), **config_of(root)) as server:
        assert ask(server).status == 200
        assert server.get("/api/symbols").status == 200
        assert server.metric("zerocopy_workers") == 1


def test_cold_bytes_are_read_without_a_null_device(root: Path) -> None:
    """What is sent there is thrown away: a buffer does as well."""
    path = f"{root}/coinbase/BTC-USD/MD/time.01.01.70.bin"
    for name in (path, path.replace("time.", "price.")):
        with open(name, "wb") as file:
            file.write(b"\1\0\0\0" * LARGE)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with RunningServer(root, under=without("/dev"), **config_of(root)) as server:
        answer = ask(server)
        assert len(answer.content.partition(b"\n")[2]) == 8 * LARGE


def test_tls_without_proc_names_proc(root: Path) -> None:
    """The certificate is there; OpenSSL finds its copy by a path below /proc."""
    names = ("SSL_CERT_PATH", "SSL_PRIVATE_FILE")
    files = dict(zip(names, certificate_files(), strict=True))
    for command in ("serve", "check-config"):
        code, line = run_without("/proc", root, command, USE_TLS="true", **files)
        assert code == 1
        assert line.count("\n") == 1
        assert line.startswith("zerocopy: /proc is not mounted")


def test_doctor_of_a_process_without_proc_names_proc(root: Path) -> None:
    """Whether there is such a process nobody can tell."""
    code, line = run_without("/proc", root, "doctor", "--pid", "1")
    assert (code, line.count("\n")) == (1, 1)
    assert "/proc is not mounted" in line


def test_closed_stream_without_null_device_names_it(root: Path) -> None:
    """Nothing else can take the place of the stream."""
    command = ["sh", "-c", 'exec "$@" 0<&-', "sh", *ZEROCOPY, "symbols"]
    done = subprocess.run(
        [*without("/dev"), *command],
        env=environment(DATA_PATH=str(root), **config_of(root)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/dev/null" in done.stderr
