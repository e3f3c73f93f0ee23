# ruff: noqa: INP001, S603, T201 - a script beside the documents; it runs npm and prints
"""Renews zerocopy/web/vendor/: files of named versions from npm, unchanged, with their licences.

    python3 docs/vendor.py          fetch what `PACKAGES` names, check it, write it
    python3 docs/vendor.py --check  whether what is there is what was checked; no network

npm fetches (`npm pack`); the checksums are those that npm publishes as `dist.integrity`. To take a
newer version, change `PACKAGES`, run this, look at the page, run `pytest tests/web`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

VENDOR = Path(__file__).resolve().parent.parent / "zerocopy" / "web" / "vendor"
LOCK = "vendored.json"


class Package(NamedTuple):
    """A package, its checksum (SRI: sha512, base64), and which of its files are taken."""

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
    ),
)


def integrity_of(content: bytes) -> str:
    """The checksum as `dist.integrity` spells it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def fetch(package: Package) -> dict[str, bytes]:
    """The files taken of a package, by the names they get."""
    with tempfile.TemporaryDirectory() as folder:
        spec = f"{package.name}@{package.version}"
        command = ["npm", "pack", "--silent", "--pack-destination", folder, spec]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(folder).iterdir()
        found = integrity_of(archive.read_bytes())
        if found != package.integrity:
            raise SystemExit(f"{spec}: its checksum is {found}, not {package.integrity}")
        with tarfile.open(archive) as tar:
            contents = {}
            for name in package.files:
                member = tar.extractfile(f"package/{name}")
                assert member is not None, f"{spec}: {name} is no file"
                contents[target_of(package, name)] = member.read()
    return contents


def target_of(package: Package, name: str) -> str:
    """`uPlot.iife.min.js`; a licence gets its package's name before it."""
    last = name.rpartition("/")[2]
    return f"{package.name}.{last}" if last == "LICENSE" else last


def main(arguments: list[str]) -> int:
    """Write the files and their checksums, or compare them."""
    if arguments == ["--check"]:
        lock = json.loads((VENDOR / LOCK).read_text("utf-8"))
        wrong = [
            name
            for package in lock.values()
            for name, integrity in package["files"].items()
            if integrity_of((VENDOR / name).read_bytes()) != integrity
        ]
        print(*(f"{name}: changed by hand" for name in wrong), sep="\n", end="\n" if wrong else "")
        return 1 if wrong else 0
    VENDOR.mkdir(parents=True, exist_ok=True)
    lock = {}
    for package in PACKAGES:
        contents = fetch(package)
        for name, content in contents.items():
            (VENDOR / name).write_bytes(content)
        lock[package.name] = {
            "version": package.version,
            "integrity": package.integrity,
            "files": {name: integrity_of(content) for name, content in contents.items()},
        }
    (VENDOR / LOCK).write_text(json.dumps(lock, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
