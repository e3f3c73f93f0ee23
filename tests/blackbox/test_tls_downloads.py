"""Programs that download over TLS, whole and resumed: each gets the bytes of the day files."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.certificate import authority
from tests.server import ForkedServer
from tests.ticks import make_ticks, ticks_body, ticks_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL, LARGE = 150_000, 2_100_000
"""Records of each of three days: answers of 3.6 MB, and of 50 MB for `make slow`."""

TIMEOUT_S = 50

REQUESTS = """
import requests
with requests.get(url, headers=fields, verify=ca, stream=True, timeout=40) as answer:
    answer.raise_for_status()
    for data in answer.iter_content(65_536):
        out.write(data)
"""
URLLIB3 = """
import urllib3
pool = urllib3.PoolManager(ca_certs=ca, timeout=40, retries=False)
answer = pool.request("GET", url, headers=fields, preload_content=False)
assert answer.status in (200, 206), answer.status
for data in answer.stream(65_536):
    out.write(data)
"""
HTTPX = """
import httpx, ssl
context = ssl.create_default_context(cafile=ca)
with httpx.stream("GET", url, headers=fields, verify=context, timeout=40) as answer:
    answer.raise_for_status()
    for data in answer.iter_raw(65_536):
        out.write(data)
"""
AIOHTTP = """
import aiohttp, asyncio, ssl
async def get():
    context = ssl.create_default_context(cafile=ca)
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers=fields, ssl=context) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_chunked(65_536):
                out.write(data)
asyncio.run(get())
"""
URLLIB = """
import ssl, urllib.request
context = ssl.create_default_context(cafile=ca)
asked = urllib.request.Request(url, headers=fields)
with urllib.request.urlopen(asked, context=context, timeout=40) as answer:
    while data := answer.read(65_536):
        out.write(data)
"""
LIBRARIES = {
    "requests": REQUESTS, "urllib3": URLLIB3, "httpx": HTTPX, "aiohttp": AIOHTTP, "urllib": URLLIB,
}  # fmt: skip
PREAMBLE = """
import os, sys
url, ca, path = sys.argv[1:]
begin = os.path.getsize(path) if os.path.exists(path) else 0
fields = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
out = open(path, "ab", buffering=0)
"""
FETCH = """
const fs = require("fs");
const [url, path] = process.argv.slice(1);
const begin = fs.existsSync(path) ? fs.statSync(path).size : 0;
const headers = begin ? { Range: `bytes=${begin}-` } : {};
(async () => {
  const answer = await fetch(url, { headers });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  for await (const data of answer.body) fs.appendFileSync(path, data);
})().catch((error) => { console.error(error); process.exit(1); });
"""


@contextmanager
def offered(root: Path, records_per_day: int) -> Iterator[tuple[str, bytes]]:
    """An address, and what is there; nothing that a program does is a fault of the server."""
    make_ticks(str(root), records_per_day)
    with ForkedServer(root, USE_TLS="true") as running:
        yield f"https://127.0.0.1:{running.tls_port}{ticks_target()}", ticks_body(str(root))
        assert not [event for event in running.events() if event["level"] == "error"]
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes]]:
    """An answer of 3.6 MB."""
    with offered(tmp_path_factory.mktemp("small"), SMALL) as offer:
        yield offer


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes]]:
    """An answer of 50 MB."""
    with offered(tmp_path_factory.mktemp("large"), LARGE) as offer:
        yield offer


@pytest.fixture(scope="module")
def ca_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's certificate as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def command_of(program: str, url: str, ca_path: str, path: Path) -> list[str]:
    """What downloads `url` into `path`, and goes on where the file there ends."""
    if program in LIBRARIES:
        return [sys.executable, "-c", PREAMBLE + LIBRARIES[program], url, ca_path, str(path)]
    name, *options = program.split()
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    by_name = {
        "curl": ["-sSf", "-C", "-", "--cacert", ca_path, "-o", str(path), *options, url],
        "wget": ["-q", "-c", f"--ca-certificate={ca_path}", "-O", str(path), url],
        "aria2c": [
            "-q", "-c", "-x4", "-s4", "-k1M", f"--ca-certificate={ca_path}", "-d", str(path.parent),
            "-o", path.name, url,
        ],
        "node": ["-e", FETCH, url, str(path)],
    }  # fmt: skip
    return [found, *by_name[name]]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(("small", 1_234_567), id="resumed"),
        pytest.param(("large", 0), id="50 MB whole", marks=pytest.mark.slow),
        pytest.param(("large", 12_345_678), id="50 MB resumed", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "program", [*LIBRARIES, "curl --http1.1", "curl --http2", "wget", "aria2c", "node"]
)
def test_download_has_the_hash_of_the_data(
    request: pytest.FixtureRequest,
    ca_path: str,
    tmp_path: Path,
    program: str,
    wanted: tuple[str, int],
) -> None:
    """From its first byte, or from where an earlier download of the same broke off."""
    if program in LIBRARIES and importlib.util.find_spec(program) is None:
        pytest.skip(f"{program} is not installed")
    name, begin = wanted
    url, body = request.getfixturevalue(name)
    path = tmp_path / "download"
    if begin:
        path.write_bytes(body[:begin])
    command = command_of(program, url, ca_path, path)
    environ = {"PATH": "/usr/bin:/bin", "NODE_EXTRA_CA_CERTS": ca_path, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=environ)
    assert done.returncode == 0, done.stderr[-1_000:]
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(body).digest()
