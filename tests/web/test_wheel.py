"""The wheel holds the page: built, installed into a venv of its own, and served from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from typing import TYPE_CHECKING

from tests.server import RunningServer
from tests.web.node import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

WEB = REPOSITORY / "zerocopy" / "web"


def build(folder: Path) -> Path:
    """The wheel of this tree, built without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, timeout=50)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, venv: Path) -> str:
    """The Python of a new venv with the wheel in it; its dependencies are those of this Python.

    A wheel of pure Python is installed by unpacking it: PEP 427, section "Installing a wheel".
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    [site] = venv.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    paths = [path for path in sys.path if path.endswith("site-packages")]
    paths.append(sysconfig.get_path("purelib"))
    (site / "dependencies.pth").write_text("\n".join(dict.fromkeys(paths)), "utf-8")
    return python


def test_installed_wheel_serves_the_page(tmp_path: Path) -> None:
    """Every file of zerocopy/web/ is in it; the command serves the page and all that it names."""
    wheel = build(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("zerocopy/web/") for name in archive.namelist()}
    files = {str(path.relative_to(WEB)) for path in WEB.rglob("*") if path.is_file()}
    assert files <= packed
    python = install(wheel, tmp_path / "venv")
    probe = "import zerocopy; print(zerocopy.__file__)"
    where = subprocess.run(
        [python, "-c", probe], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert where.startswith(str(tmp_path))
    server = RunningServer(tmp_path / "root")
    server._command = [shutil.which("env") or "env", "-C", str(tmp_path), python,
                       "-m", "zerocopy", "serve"]  # fmt: skip
    os.mkdir(tmp_path / "root")
    with server as running:
        page = running.get("/").content.decode()
        for name in re.findall(r'(?:href|src)="(ui/[^"]+)"', page):
            assert running.get("/" + name).status == 200
