"""What lies in zerocopy/web/vendor/ is what npm published, with its version and licence."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.web.node import REPOSITORY

VENDOR = REPOSITORY / "zerocopy" / "web" / "vendor"


def test_files_are_unchanged_and_have_their_licence() -> None:
    """By the checksums that docs/vendor.py wrote; no network."""
    command = [sys.executable, str(REPOSITORY / "docs" / "vendor.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    lock = json.loads((VENDOR / "vendored.json").read_text("utf-8"))
    listed = {name for package in lock.values() for name in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == listed | {"vendored.json"}
    assert "MIT" in (VENDOR / "uplot.LICENSE").read_text("utf-8")
    version = lock["uplot"]["version"]
    assert f"uPlot (v{version})" in (VENDOR / "uPlot.iife.min.js").read_text("utf-8")[:200]
    page = (VENDOR.parent / "ui" / "index.html").read_text("utf-8")
    assert f"uPlot {version}" in page
