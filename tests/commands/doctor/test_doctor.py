"""The doctor over fake trees of /proc and /sys, and the command itself."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from zerocopy.access.keys import add_key
from zerocopy.commands.doctor import files, network, process, system
from zerocopy.commands.doctor.finding import Finding, Verdict
from zerocopy.commands.doctor.host import Host, Interpreter
from zerocopy.commands.doctor.needs import needs_of
from zerocopy.commands.doctor.report import CHECKS, as_json, as_line, examine, exit_code
from zerocopy.config.load import Config

if TYPE_CHECKING:
    from pathlib import Path

NEEDS = needs_of(Config())
PYTHON = Interpreter(
    version="3.11.2",
    configured="--enable-optimizations",
    packages={"uvloop": "0.21"},
    has_ktls=False,
    openssl="OpenSSL 3",
)
LIMITS = """Limit  Soft Limit  Hard Limit  Units
Max open files            1024                 {nofile}                files
Max locked memory         8388608              8388608              bytes
"""


def host_of(root: Path, **contents: str) -> Host:
    """A machine of these files; two underscores stand for a slash."""
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Host(str(root), "self", PYTHON)


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    """Every check has a finding where no file can be read, and most say so."""
    findings = examine(host_of(tmp_path), replace(NEEDS, data_root=str(tmp_path)))
    assert len(findings) == len(CHECKS)
    assert exit_code(findings) == 0
    assert sum(finding.verdict is Verdict.UNKNOWN for finding in findings) >= 10


@pytest.mark.parametrize(("nofile", "verdict"), [("4096", "change"), ("unlimited", "ok")])
def test_too_few_descriptors_must_change(tmp_path: Path, nofile: str, verdict: str) -> None:
    """The hard limit counts, and the line to write names what the configuration needs."""
    host = host_of(tmp_path, proc__self__limits=LIMITS.format(nofile=nofile))
    finding = process.descriptors(host, NEEDS)
    assert finding.verdict == verdict
    assert (f"LimitNOFILE={NEEDS.descriptors}" in finding.change) is (verdict == "change")


@pytest.mark.parametrize(("capabilities", "verdict"), [("0", "change"), ("4000", "ok")])
def test_locked_memory_is_what_a_worker_locks(
    tmp_path: Path, capabilities: str, verdict: str
) -> None:
    """8 MiB are too few for 256 MiB, but not for who has CAP_IPC_LOCK."""
    host = host_of(
        tmp_path,
        proc__self__limits=LIMITS.format(nofile=20_000),
        proc__self__status=f"CapEff:\t{capabilities}\n",
    )
    assert process.locked_memory(host, NEEDS).verdict == verdict


def test_directory_of_roll_ups_must_be_one_that_can_be_written(tmp_path: Path) -> None:
    """It need not exist yet; a file in its place cannot be one, and without it memory is all."""
    host = host_of(tmp_path)
    (tmp_path / "file").touch()
    for path, verdict in ((tmp_path / "new" / "er", "ok"), (tmp_path / "file" / "er", "advice")):
        assert files.rollups(host, replace(NEEDS, rollup_path=str(path))).verdict == verdict
    assert files.rollups(host, replace(NEEDS, rollup_path=None)).verdict == "note"


def test_store_cache_without_attributes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not exist yet; what cannot be asked is not known, and without a store all is well."""
    host, needs = host_of(tmp_path), replace(NEEDS, cache_path=str(tmp_path / "new" / "er"))
    assert files.store_cache(host, NEEDS).verdict == "ok"
    asked: list[str] = []
    for number, verdict in (
        (errno.ENODATA, "ok"),
        (errno.ENOTSUP, "advice"),
        (errno.EACCES, "unknown"),
    ):

        def getxattr(path: str, _name: str, number: int = number) -> bytes:
            asked.append(path)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "getxattr", getxattr)
        assert files.store_cache(host, needs).verdict == verdict
    assert set(asked) == {str(tmp_path)}


def test_key_file_that_stops_the_server_must_change(tmp_path: Path) -> None:
    """Missing or open to others; one that everybody may read is advice; without one all is well."""
    host, path = host_of(tmp_path), str(tmp_path / "keys.json")
    needs = replace(NEEDS, keys_path=path)
    assert files.key_file(host, NEEDS).verdict == "ok"
    assert files.key_file(host, needs).verdict == "change"
    add_key(path, "desk")
    for mode, verdict in ((0o600, "ok"), (0o644, "advice"), (0o666, "change")):
        os.chmod(path, mode)
        assert files.key_file(host, needs).verdict == verdict


@pytest.mark.parametrize(("somaxconn", "verdict"), [("128", "change"), ("4096", "ok")])
def test_a_queue_that_cuts_the_backlog_must_change(
    tmp_path: Path, somaxconn: str, verdict: str
) -> None:
    """net.core.somaxconn below [server] backlog."""
    host = host_of(tmp_path, proc__sys__net__core__somaxconn=somaxconn)
    assert network.accept_queue(host, NEEDS).verdict == verdict


@pytest.mark.parametrize(
    ("kind", "options", "verdict"),
    [("nfs4", "rw", "change"), ("nfs4", "rw,noac", "ok"), ("ext4", "rw", "ok")],
)
def test_a_network_file_system_must_not_cache_attributes(
    tmp_path: Path, kind: str, options: str, verdict: str
) -> None:
    """The mount with the longest point that holds the root is judged."""
    for point, root in (("/md", "/md/data"), ("/my\\040données", "/my données/data")):
        mounts = f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / {point} rw - {kind} s:/ {options}\n"
        host = host_of(tmp_path, proc__self__mountinfo=mounts)
        assert files.file_system(host, replace(NEEDS, data_root=root)).verdict == verdict


def test_more_workers_than_processors_are_told(tmp_path: Path) -> None:
    """Eight on the four that the process may use."""
    host = host_of(tmp_path, proc__self__status="Cpus_allowed_list:\t0-2,5\n")
    assert host.processors() == 4
    assert process.processors(host, replace(NEEDS, workers=8)).verdict is Verdict.ADVICE


def test_an_old_kernel_is_told_what_it_lacks(tmp_path: Path) -> None:
    """5.10 has no MADV_POPULATE_READ."""
    host = host_of(tmp_path, proc__sys__kernel__osrelease="5.10.0-30-amd64")
    assert "MADV_POPULATE_READ" in system.kernel(host, NEEDS).found


def test_forms_of_a_report() -> None:
    """A line for a pipe, and JSON that counts what must change."""
    finding = Finding("a", Verdict.CHANGE, "b", "c", "d", "e")
    assert as_line(finding) == "change\ta\tb\tchange: c\tgain: d\tsee: e"
    assert json.loads(as_json([finding]))["must_change"] == 1
    assert exit_code([finding]) == 1


def test_the_command_tells_of_a_root_that_is_missing(tmp_path: Path) -> None:
    """Exit code 1, and the finding is in the JSON."""
    command = [sys.executable, "-m", "zerocopy", "doctor", "--json", "-d", str(tmp_path / "none")]
    environ = {"PATH": os.environ["PATH"], "ZEROCOPY_CONFIG": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 1, done.stderr
    found = {one["check"]: one["verdict"] for one in json.loads(done.stdout)["findings"]}
    assert found["data root"] == "change"
