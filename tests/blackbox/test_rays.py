"""A server behind a tunnel: requests that differ in CF-Ray alone, on real sockets, and its log."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.client import (
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    column_path,
    poll,
    request_of,
    target_of,
    write_series,
)
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RAYS = [f"8a1b2c3d4e5f67{number:02x}-FRA" for number in range(20)]
RECORDS = 5_000_000
"""Of an answer of 20 MB, more than sockets hold."""
EVERYTHING = {"ZEROCOPY_LOG_ACCESS_SAMPLE": "1.0", "ZEROCOPY_SERVER_WORKERS": "1"}
FIELDS = (
    "Accept-Encoding: gzip, br",
    "Cdn-Loop: cloudflare; loops=1",
    "Cf-Connecting-Ip: 203.0.113.7",
    'Cf-Visitor: {"scheme":"https"}',
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A small series, and a large one for each test to truncate."""
    write_series(tmp_path, "SMALL", 500)
    write_series(tmp_path, "LARGE", RECORDS)
    yield tmp_path
    shutil.rmtree(tmp_path)


def from_tunnel(ray: str, target: str) -> bytes:
    """A request as cloudflared sends it."""
    return request_of(target, *FIELDS[:2], f"Cf-Ray: {ray}", *FIELDS[2:])


def ids_of(server: RunningServer, event: str) -> list[Any]:
    """The ids in the lines of an event so far."""
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    return [line.get("request_id") for line in lines if line["event"] == event]


def test_each_request_has_its_own_ray_in_the_access_log(root: Path) -> None:
    """Of twenty that differ in it alone: on one connection and, at once, on ten others."""
    with ForkedServer(root, **EVERYTHING) as server, Client(server) as client:
        body = body_of(root, "SMALL")
        for ray in RAYS[:10]:
            client.send(from_tunnel(ray, SMALL))
            assert client.answer().content == body
        clients = [Client(server) for _ in RAYS[10:]]
        for each, ray in zip(clients, RAYS[10:], strict=True):
            each.send(from_tunnel(ray, SMALL))
        for each in clients:
            assert each.answer().content == body
            each.close()
        poll(lambda: len(ids_of(server, "request")) == len(RAYS), "the lines")
        ids = ids_of(server, "request")
    assert ids[:10] == RAYS[:10]
    assert sorted(ids) == RAYS


def test_each_plan_that_skips_a_day_warns_with_the_ray_of_its_own_request(root: Path) -> None:
    """The second differs from the first in its ray alone, and is planned as the data changed."""
    lonely = column_path(root, "SMALL", "time").replace("01.01.70", "02.01.70")
    target = target_of("SMALL", end=2 * 86_400)
    with ForkedServer(root, **EVERYTHING) as server, Client(server) as client:
        for number, ray in enumerate(RAYS[:3], start=1):
            with open(lonely, "wb") as file:  # a day without a price, and each time another one
                file.write((86_400).to_bytes(4, "little") * number)
            client.send(from_tunnel(ray, target))
            assert b'"skipped":["02.01.70"]' in client.answer().content
        poll(lambda: len(ids_of(server, "request")) == 3, "the lines")
        assert ids_of(server, "days_skipped") == ids_of(server, "request") == RAYS[:3]


def test_transfer_that_is_aborted_is_told_with_the_ray_of_its_own_request(root: Path) -> None:
    """Another request with all of the same answer came before it, and one more came since."""
    target, path = target_of("LARGE", "price"), column_path(root, "LARGE", "price")
    with ForkedServer(root, **EVERYTHING) as server:
        with Client(server) as client:
            client.send(from_tunnel(RAYS[0], target))
            assert client.answer().content == body_of(root, "LARGE", ["price"])
        with Client(server, TINY_BUFFER_BYTES) as client, Client(server) as other:
            client.send(from_tunnel(RAYS[1], target))
            assert client.head()[0] == 200
            other.send(from_tunnel(RAYS[2], SMALL))
            assert other.answer().status == 200
            os.truncate(path, 4_096)
            assert client.read_until_end(4 * RECORDS)[1]
        poll(lambda: ids_of(server, "transfer_aborted") != [], "the error")
        poll(lambda: len(ids_of(server, "request")) == 3, "the lines")
        assert ids_of(server, "transfer_aborted") == [RAYS[1]]
        assert ids_of(server, "request") == [RAYS[0], RAYS[2], RAYS[1]]
