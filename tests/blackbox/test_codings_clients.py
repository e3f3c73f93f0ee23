"""Content codings as real clients have them: curl, requests, urllib3, httpx, aiohttp and node.

Each asks as it always does and decodes by itself. What it then has is what a client has that takes
no coding; and the response did come in one.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest
import requests
import urllib3

from tests.server import ForkedServer, RunningServer
from tests.table import case
from tests.ticks import make_ticks, ticks_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RECORDS_PER_DAY = 20_000
ZSTD = f"{ticks_target()}&compress=zstd"
"""What only a client that takes zstd gets compressed."""

TARGETS = (
    "/openapi.json",
    "/",
    f"{ticks_target()}&format=json",
    f"{ticks_target()}&format=csv",
    f"{ticks_target()}&format=json&last=1",
    f"{ticks_target(columns='price').replace('/data', '/bars')}&format=csv",
    ZSTD,
)

TIMEOUT_S = 30

NODE = """
const { createHash } = await import("node:crypto");
for (const url of process.argv.slice(1)) {
  const response = await fetch(url);
  const content = Buffer.from(await response.arrayBuffer());
  console.log(JSON.stringify([
    response.status,
    response.headers.get("content-encoding"),
    createHash("sha256").update(content).digest("hex"),
  ]));
}
"""


class Found(NamedTuple):
    """What a client has: the coding it was told, and the SHA-256 of what it made of the content."""

    coding: str | None
    digest: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One plain listener over three days."""
    root = tmp_path_factory.mktemp("codings")
    make_ticks(str(root), RECORDS_PER_DAY)
    with ForkedServer(root, USE_TLS="false") as running:
        yield running


def found(fields: Mapping[str, str], content: bytes) -> Found:
    """What a library gives."""
    return Found(fields.get("content-encoding"), hashlib.sha256(content).hexdigest())


def ask_plain(server: RunningServer, target: str) -> Found:
    """http.client says `identity` and decodes nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    connection.request("GET", target)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200
    return found(dict(response.headers), content)


def by_curl(url: str) -> Found:
    """`curl --compressed`; without it curl asks for nothing."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-sS", "--fail", "--compressed", "--max-time", str(TIMEOUT_S)]
    told = "\\n%header{content-encoding}"
    done = subprocess.run([*command, "-w", told, url], capture_output=True, check=True)
    content, _, coding = done.stdout.rpartition(b"\n")
    return Found(coding.decode() or None, hashlib.sha256(content).hexdigest())


def by_requests(url: str) -> Found:
    """Requests."""
    response = requests.get(url, timeout=TIMEOUT_S)
    response.raise_for_status()
    return found(response.headers, response.content)


def by_urllib3(url: str) -> Found:
    """urllib3, told to ask for all that it can decode."""
    fields = urllib3.make_headers(accept_encoding=True)
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", url, headers=fields)
        assert response.status == 200
        return found(response.headers, response.data)


def by_httpx(url: str) -> Found:
    """httpx, which takes zstd where `zstandard` is installed."""
    response = httpx.get(url, timeout=TIMEOUT_S)
    response.raise_for_status()
    return found(response.headers, response.content)


def by_aiohttp(url: str) -> Found:
    """Aiohttp."""
    import aiohttp  # noqa: PLC0415 - slow to import

    async def ask() -> Found:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            response = await session.get(url)
            return found(response.headers, await response.read())

    return asyncio.run(ask())


def by_node(urls: Sequence[str]) -> list[Found]:
    """Fetch of node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, "--input-type=module", "-e", NODE, *urls]
    done = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [status for status, _, _ in answers] == [200] * len(urls)
    return [Found(coding, digest) for _, coding, digest in answers]


def by_each(ask: Callable[[str], Found]) -> Callable[[Sequence[str]], list[Found]]:
    """Ask for one after the other."""
    return lambda urls: [ask(url) for url in urls]


CLIENTS: dict[str, tuple[Callable[[Sequence[str]], list[Found]], bool]] = {
    "curl": (by_each(by_curl), True),
    "requests": (by_each(by_requests), False),
    "urllib3": (by_each(by_urllib3), False),
    "httpx": (by_each(by_httpx), True),
    "aiohttp": (by_each(by_aiohttp), False),
    "node": (by_node, False),
}
"""Each with whether it takes zstd wherever this test runs."""


@pytest.fixture(scope="module")
def plain(server: RunningServer) -> dict[str, Found]:
    """What a client has that takes no coding, by target."""
    answers = {target: ask_plain(server, target) for target in TARGETS}
    assert {answer.coding for answer in answers.values()} == {None}
    return answers


@pytest.mark.parametrize("client", CLIENTS)
def test_client_decodes_what_it_is_sent(
    server: RunningServer, plain: dict[str, Found], client: str
) -> None:
    """Documents and data, small and large, in what the client likes; columns only in zstd."""
    ask, takes_zstd = CLIENTS[client]
    found = ask([f"http://127.0.0.1:{server.port}{target}" for target in TARGETS])
    for target, answer in zip(TARGETS, found, strict=True):
        with case(target):
            assert answer.digest == plain[target].digest
            codings = {"zstd", None} if target == ZSTD else {"zstd", "gzip"}
            assert answer.coding in ({"zstd"} if takes_zstd else codings)
