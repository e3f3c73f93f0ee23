"""What was measured on what: date, commit, processor, versions.

Owns the foot of a report. It must never change what is measured.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bench.peers import missing
from bench.section import Machine

if TYPE_CHECKING:
    from collections.abc import Container

PACKAGES = ("zerocopy", "uvloop", "httptools", "hypercorn", "h2", "uvicorn", "numpy")


def python_build() -> str:
    """Whose build of CPython this is, for one without profile-guided optimization is much slower.

    Distributions have their own ways to ask for it, so of theirs nothing more can be told.
    """
    if sys.base_prefix == "/usr":
        return "the distribution's build"
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"built {'with' if optimized else 'without'} --enable-optimizations"


def describe_machine(cores: list[int], load_before: float, rounds: str) -> Machine:
    """Date, commit, machine and versions; `rounds` says how often and how long was measured."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = (
        output("git", "describe", "--always", "--dirty= with changes", accept=(0,)) or "unknown"
    )
    python = f"CPython {sys.version.split()[0]} ({python_build()})"
    packages = ", ".join(f"{name} {package_version(name)}" for name in PACKAGES)
    pinning = (
        f"server on core {cores[0]}, client on core {cores[-1]}"
        if len(cores) > 1
        else "ONE core for server and client together: the figures say little"
    )
    load_after = os.getloadavg()[0]
    return Machine(
        date=date,
        commit=commit,
        model=cpu_model(),
        lines=(
            f"{date}, commit {commit}",
            rounds,
            f"{cpu_model()}, {len(cores)} cores; {pinning}",
            f"Linux {os.uname().release}; load average {load_before:.2f} to {load_after:.2f}",
            f"{python}; {packages}",
            f"{ssl.OPENSSL_VERSION}; in nginx: {nginx_tls()}",
            (
                f"{tool_version('nginx', '-v')}; {tool_version('wrk', '-v')}; "
                f"{tool_version('h2load', '--version')}"
            ),
            (
                "loopback, warm page cache, bodies proved byte-identical before measuring; "
                "zerocopy looks at the files for every request, nginx trusts its open_file_cache "
                "for 60 s"
            ),
            (
                "over TLS: version 1.3, TLS_AES_128_GCM_SHA256, one certificate for all; stock "
                "Hypercorn is unchanged, with one worker on uvloop and the same application; "
                "uvicorn runs a plain application that reads the day files with numpy and read(2), "
                "and speaks HTTP/1.1 over TLS because it knows no HTTP/2"
            ),
        ),
    )


def package_version(name: str) -> str:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def nginx_tls() -> str:
    """The OpenSSL that nginx runs with."""
    lines = output("nginx", "-V").splitlines()
    return next((line for line in lines if "OpenSSL" in line), "unknown")


def cpu_model() -> str:
    """As /proc/cpuinfo calls it."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else "unknown processor"


def tool_version(tool: str, flag: str) -> str:
    """The first words a tool says about itself."""
    if missing(tool) is not None:
        return f"no {tool}"
    line = output(tool, flag).partition("\n")[0]
    return " ".join(line.removeprefix("nginx version: ").split(" ")[:2])


def output(*command: str, accept: Container[int] = (0, 1)) -> str:
    """What a command wrote to either stream; nothing where it cannot be run or fails.

    wrk tells its version and exits with 1.
    """
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode in accept else ""
