"""Ranges and preconditions of the running server against the reference, field by field."""

from __future__ import annotations

import http.client
import re
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.client import SMALL, body_of, seal, write_series
from tests.fuzz.fields import field_lists, methods
from tests.fuzz.reference import Representation, expected, parse_date
from tests.server import Answer, ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fuzz.fields import Fields

    Ask = Callable[[str, Fields], Answer]
    Served = tuple["Asker", bytes, Representation, st.SearchStrategy[Fields]]

RECORDS = 100


class Asker:
    """One kept connection to the data; counts on the server to keep it."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.plain_port, timeout=20)

    def __call__(self, method: str, fields: Fields) -> Answer:
        """One request with these fields, in their order."""
        connection = self._connection
        connection.putrequest(method, SMALL, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value.encode("utf-8"))
        connection.endheaders()
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def contents(answer: Answer) -> list[tuple[str | None, bytes]]:
    """Content-Range and bytes of each part, or of the only one."""
    media_type = answer.fields.get("content-type", "")
    if not media_type.startswith("multipart/byteranges"):
        return [(answer.fields.get("content-range"), answer.content)]
    assert "content-range" not in answer.fields, "RFC 9110, 15.3.7.2"
    head = f"Content-Type: {media_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + answer.content)
    assert message.is_multipart()
    assert not message.defects
    boundary = message.get_boundary()
    assert boundary
    # The e-mail package changes line ends in content, so the bytes are cut by hand.
    start, *parts, end = answer.content.split(f"--{boundary}".encode())
    assert start in {b"", b"\r\n"}
    assert end in {b"--\r\n", b"--"}
    found: list[tuple[str | None, bytes]] = []
    for part in parts:
        fields, _, content = part.partition(b"\r\n\r\n")
        told = re.search(rb"(?i)\r\ncontent-range: *([^\r]*)", fields)
        assert re.search(rb"(?i)\r\ncontent-type: *application/octet-stream(\r\n|$)", fields)
        assert content.endswith(b"\r\n")
        found.append((told[1].decode() if told else None, content[:-2]))
    return found


def check(ask: Ask, body: bytes, whole: Representation, method: str, fields: Fields) -> None:
    """Compare one answer with what the reference expects."""
    outcome, answer = expected(method, fields, whole), ask(method, fields)
    assert answer.status == outcome.status, (method, fields, outcome)
    if outcome.status in {200, 206, 304}:
        assert answer.fields["etag"] == whole.etag
    if outcome.status == 416:
        assert answer.fields["content-range"] == outcome.content_range(whole.nbytes)
    if outcome.status == 304:
        assert answer.content == b""
        assert "content-length" not in answer.fields
    if outcome.status not in {200, 206}:
        return
    if method == "HEAD":
        assert answer.content == b""
        assert int(answer.fields["content-length"]) == len(body)
        return
    assert int(answer.fields["content-length"]) == len(answer.content)
    parts = [(f"bytes {a}-{b}/{len(body)}", body[a : b + 1]) for a, b in outcome.spans]
    assert contents(answer) == (parts if outcome.status == 206 else [(None, body)]), fields


@pytest.fixture(scope="module", name="served")
def fixture_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """A way to ask a server for one closed day, its bytes, and what they are known by."""
    root = tmp_path_factory.mktemp("ranges")
    write_series(root, "SMALL", RECORDS)
    seal(root, "SMALL")
    with ForkedServer(root) as server:
        ask = Asker(server)
        answer = ask("GET", [])
        if "accept-ranges" not in answer.fields:
            ask.close()
            pytest.skip("ranges not served")
        body = body_of(root, "SMALL")
        modified = parse_date(answer.fields["last-modified"])
        assert answer.content == body
        assert answer.fields["accept-ranges"] == "bytes"
        assert modified
        whole = Representation(answer.fields["etag"], modified, len(body))
        yield ask, body, whole, field_lists(whole)
        ask.close()


@pytest.mark.timeout(180)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_fields_have_the_outcome_of_the_rfc(served: Served, data: st.DataObject) -> None:
    """Status, Content-Range and every byte, for valid, nearly valid and hostile fields."""
    ask, body, whole, fields = served
    check(ask, body, whole, data.draw(methods()), data.draw(fields))


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(deadline=None, max_examples=100_000)
@given(data=st.data())
def test_many_more_fields_have_the_outcome_of_the_rfc(served: Served, data: st.DataObject) -> None:
    """The same with a hundred thousand more."""
    ask, body, whole, fields = served
    check(ask, body, whole, data.draw(methods()), data.draw(fields))
