"""What the server and the commands import: nothing from the directory they stand in."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import zerocopy
from tests.command_line import (
    COMMANDS,
    WAYS_TO_TELL,
    ZEROCOPY,
    Place,
    end,
    environment,
    make_root,
    run,
    started,
)
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

THIRD_PARTY = (
    *("cryptography", "h11", "h2", "hpack", "httptools", "hypercorn", "msgspec", "numpy", "orjson"),
    *("prometheus_client", "rich", "sitecustomize", "structlog", "typer", "usercustomize"),
    *("uvloop", "wsproto"),
)


class PlantedServer(RunningServer):
    """Started as the script `zerocopy` is, in the working directory of the test."""

    def __init__(self, root: Path, **environ: str) -> None:
        super().__init__(root, **environ)
        self._command = [*ZEROCOPY, "serve"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server to ask, which stands elsewhere."""
    root = tmp_path_factory.mktemp("data")
    make_root(root)
    with ForkedServer(root) as server:
        yield Place(root, server, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a module for each that could be imported; each tells that it was."""
    folder = tmp_path_factory.mktemp("planted")
    for name in {*sys.stdlib_module_names, *THIRD_PARTY, "zerocopy"}:
        code = f"open({str(folder / 'executed')!r}, 'a').write({name!r} + ' ')\n"
        (folder / f"{name}.py").write_text(code)
    (folder / "zerocopy").mkdir()
    (folder / "zerocopy" / "__init__.py").write_text(code)
    return folder


@pytest.fixture
def planted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand there; nothing of it may be executed."""
    monkeypatch.chdir(folder)
    yield
    told = folder / "executed"
    executed = told.read_text() if told.exists() else ""
    told.unlink(missing_ok=True)
    assert executed == ""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=() if command in WAYS_TO_TELL else pytest.mark.slow)
        for command in sorted({command.split()[0] for command in COMMANDS})
    ],
)
@pytest.mark.usefixtures("planted")
def test_command_executes_nothing_of_the_working_directory(place: Place, command: str) -> None:
    """Whatever lies there, a command does what it does elsewhere."""
    done = place.run(command)
    assert done.stderr == b""
    assert done.returncode == 0 or "doctor" in command


@pytest.mark.parametrize("use_tls", [pytest.param("false", marks=pytest.mark.slow), "true"])
@pytest.mark.usefixtures("planted")
def test_workers_execute_nothing_of_the_working_directory(place: Place, use_tls: str) -> None:
    """A worker imports what its supervisor would, nothing that lies beside config.toml."""
    with PlantedServer(place.root, USE_TLS=use_tls) as server:
        assert server.get("/api/symbols").status == 200


@pytest.mark.usefixtures("planted")
def test_demo_executes_nothing_of_the_working_directory(tmp_path: Path) -> None:
    """Nor does the first command that a newcomer runs, wherever that is."""
    made = run(["generate", str(tmp_path / "data"), "--records", "10"])
    assert made.returncode == 0
    with started(
        f"demo --root {tmp_path}/data --port 0 --tls-port 0".split(),
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
    ) as demo:
        assert demo.stdout is not None
        assert any(b"Ctrl-C" in line for line in demo.stdout)
        assert end(demo) == 0


def test_module_of_the_command_line_drops_the_working_directory(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m zerocopy` looks there first, as Python has it; it goes on without."""
    for name in ("queue", "ssl", "orjson", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')\n")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "zerocopy", *place.arguments("health")]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n", b"")


def test_workers_are_of_the_package_that_started_them(tmp_path: Path, place: Place) -> None:
    """A checkout that is run where it lies starts no workers of another one that is installed."""
    source = zerocopy.__path__[0]
    (tmp_path / "zerocopy").symlink_to(source)
    (tmp_path / "sitecustomize.py").write_text("")
    server = RunningServer(place.root)
    server._command = ["env", "-C", str(tmp_path), sys.executable, "-m", "zerocopy", "serve"]
    with server:
        (worker,) = server.worker_pids()
        with open(f"/proc/{worker}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    assert f"PYTHONPATH={tmp_path}".encode() in variables
