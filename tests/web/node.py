"""Node.js, and packages of npm, for tests of what runs in browsers.

Owns how a script is run and how its cases become tests here: a file of `node:test` cases is one
process, whatever the number of cases.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
MODULE = REPOSITORY / "zerocopy" / "web" / "zerocopy.js"
NODE = shutil.which("node")
NODE_MAJOR_MIN = 20
TIMEOUT_S = 50.0

PACKAGES = {
    "apache-arrow": "21.2.0",  # reads format=arrow
    "typescript": "7.0.2",  # judges zerocopy.d.ts
    "@types/ws": "8.18.1",  # its WebSocket is one that the client takes
    "ws": "8.23.0",  # a WebSocket for Node 20, which has none
    "eventsource": "4.1.1",  # reads /api/live
}
"""What npm installs below var/, once; tests that need it are skipped where it cannot."""

INSTALL_TIMEOUT_S = 30.0
FAILED_S = 600.0
"""For how long nobody tries again: the other processes of the same run."""


@cache
def why_not() -> str:
    """Why no script can run here; nothing if one can."""
    if NODE is None:
        return "node is not installed"
    done = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True)
    is_new = int(done.stdout.lstrip("v").partition(".")[0]) >= NODE_MAJOR_MIN
    return "" if is_new else f"node is {done.stdout.strip()}, not {NODE_MAJOR_MIN} or newer"


def command(*arguments: str) -> list[str]:
    """The command that runs Node so; skips the test where there is none."""
    if reason := why_not():
        pytest.skip(reason)
    assert NODE is not None
    return [NODE, "--no-warnings", *arguments]


def environment(**more: str) -> dict[str, str]:
    """What a script finds: nothing of the caller's that changes a client."""
    return {"PATH": os.environ["PATH"], "TZ": "America/New_York", **more}


def run(*arguments: str, **environ: str) -> str:
    """What a script prints; it must succeed."""
    done = subprocess.run(
        command(*arguments),
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cases_of(name: str) -> list[str]:
    """The names of the cases of a file."""
    text = (HERE / name).read_text("utf-8")
    return re.findall(r'^test\(\s*"(.*?)",\s', text, re.MULTILINE)


def outcomes(name: str) -> dict[str, str]:
    """Of each case, what Node says of its failure; nothing if it passed."""
    done = subprocess.run(
        command("--test-reporter=tap", str(HERE / name)),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    pieces = re.split(r"^ *(ok|not ok) \d+ - ", done.stdout, flags=re.MULTILINE)
    found = {}
    for verdict, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        title, _, told = piece.partition("\n")
        found[title.strip()] = "" if verdict == "ok" else told or "failed"
    return found or dict.fromkeys(cases_of(name), done.stdout + done.stderr)


@cache
def _installed() -> tuple[str, str]:
    """The folder of `PACKAGES`, and why there is none."""
    npm = shutil.which("npm")
    if npm is None:
        return "", "npm is not installed"
    folder = REPOSITORY / "var" / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"private": True, "type": "module", "dependencies": PACKAGES}
    done, failed = folder / "installed.json", folder / "failed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if done.exists() and json.loads(done.read_text("utf-8")) == wanted:
            return str(folder), ""
        if failed.exists() and time.time() - failed.stat().st_mtime < FAILED_S:
            return "", failed.read_text("utf-8")
        (folder / "package.json").write_text(json.dumps(wanted, indent=2), "utf-8")
        reason = _install(npm, str(folder))
        if reason:
            failed.write_text(reason, "utf-8")
            return "", reason
        done.write_text(json.dumps(wanted), "utf-8")
    return str(folder), ""


def _install(npm: str, folder: str) -> str:
    """Why it failed; nothing if it did not."""
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0")
    try:
        done = subprocess.run(
            [npm, "install", *options, "--prefix", folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"npm install took more than {INSTALL_TIMEOUT_S:.0f} s"
    told = done.stderr.strip().partition("\n")[0]
    return f"npm install failed: {told}" if done.returncode else ""


def packages() -> str:
    """The folder that `PACKAGES` are installed in; skips the test where they cannot be."""
    command()
    folder, reason = _installed()
    if reason:
        pytest.skip(reason)
    return folder
