"""Any layout and query over HTTP: nodes of a store, and one of the same files, are the oracle's."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.client import Client, request_of
from tests.faults.stored import CLOSED_S, serving
from tests.naive import naive_answer
from tests.server import ForkedServer
from tests.standin import standin
from tests.storage.test_planner_properties import Case, cases
from tests.storage.trees import DTYPES, SERIES, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server import Answer
    from tests.standin import Standin
    from zerocopy.storage.tree import Series


class Site(NamedTuple):
    """A store, the same files on disk, and connections: to two nodes of the first, to one of them.

    `numbers` are those of symbols that nobody was asked for.
    """

    bucket: Standin
    root: Path
    nodes: list[Client]
    local: Client
    numbers: Iterator[int]


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Listings come in pages of three."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    root = tmp_path_factory.mktemp("root")
    dtypes = {f"ZEROCOPY_COLUMNS_{name}": dtype for name, dtype in DTYPES.items()}
    with standin() as bucket, ExitStack() as stack:
        bucket.page = 3
        servers = [
            stack.enter_context(serving(bucket, tmp_path_factory.mktemp("cache"), **dtypes))
            for _ in range(2)
        ]
        servers.append(stack.enter_context(ForkedServer(root, **dtypes)))
        *nodes, local = [stack.enter_context(Client(server)) for server in servers]
        yield Site(bucket, root, nodes, local, itertools.count())


@given(case=cases(), place=st.integers(0, 1 << 20))
def test_any_query_over_a_store_is_that_over_its_files(site: Site, case: Case, place: int) -> None:
    """Status and bytes are the oracle's; nodes agree on the tag, and go on where another ended."""
    series = SERIES._replace(symbol=f"S{next(site.numbers)}")
    put(str(site.root), {}, series=series)
    for day, files in case.days.items():
        put(str(site.root), files, day, series)
    for path in site.root.joinpath(*series).iterdir():
        site.bucket.put("/".join(("p", *series, path.name)), path.read_bytes(), CLOSED_S)
    target = target_of(series, case)
    answers = [ask(client, target) for client in (*site.nodes, site.local)]
    known = {column for files in case.days.values() for column in files}
    if not known.issuperset(case.columns):
        assert [answer.status for answer in answers] == [404] * 3
        return
    body = naive_answer(str(site.root), *series, *case[1:4], DTYPES, case.last)
    assert [(answer.status, answer.content) for answer in answers] == [(200, body)] * 3
    first, second, _ = answers
    for name in ("etag", "last-modified"):
        assert first.fields.get(name) == second.fields.get(name)
    tag, place = first.fields["etag"], place % len(body)
    assert ask(site.nodes[1], target, f"If-None-Match: {tag}").status == 304
    rest = ask(site.nodes[1], target, f"Range: bytes={place}-", f"If-Range: {tag}")
    assert (rest.status, rest.content) == (206, body[place:])


def target_of(series: Series, case: Case) -> str:
    """The query of a case."""
    exchange, symbol, type_ = series
    return (
        f"/api/data?exchange={exchange}&symbol={symbol}&type={type_}"
        f"&start={case.start_s}&end={case.end_s}&columns={','.join(case.columns)}"
        f"{'' if case.last is None else f'&last={case.last}'}"
    )


def ask(client: Client, target: str, *fields: str) -> Answer:
    """One request on a kept connection."""
    client.send(request_of(target, *fields))
    return client.answer()
