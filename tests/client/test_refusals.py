"""What a server refuses with, and how long it is asked again."""

from __future__ import annotations

import json

import pytest

from tests.client.liar import Liar, Say, honest, response
from tests.client.test_fetch import KEY, get, is_right
from zerocopy.client import (
    BadRequest,
    Client,
    Error,
    NotFound,
    NotInstalled,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from zerocopy.client.fetch import ATTEMPTS_MAX, PATIENCE_S, retry_after_s

FAR = "Fri, 31 Jan 2025 09:30:00 +99999999999999"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (405, BadRequest),
        (429, TooManyRequests),
        (500, UnexpectedAnswer),
        (501, NotInstalled),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (304, UnexpectedAnswer),
        (218, UnexpectedAnswer),
    ],
)
@pytest.mark.usefixtures("pauses")
def test_a_problem_document_becomes_the_error_that_fits(status: int, kind: type[Error]) -> None:
    """With its status and its detail."""
    problem = b"" if status == 304 else json.dumps({"detail": "it is so", "status": 1}).encode()
    with Liar(Say(response(problem, status))) as liar, pytest.raises(kind) as caught:
        get(liar)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert status == 304 or str(caught.value) == caught.value.detail == "it is so"


@pytest.mark.parametrize(
    "page", [b"<html>", b"[1]", b'{"detail": 7}', b"\xff\xfe", b"", b"null", b"[" * 60_000]
)
def test_a_problem_that_is_no_document_is_told_by_its_status(page: bytes) -> None:
    """What a proxy says of itself."""
    with Liar(Say(response(page, 404))) as liar, pytest.raises(NotFound, match="answered 404"):
        get(liar)


@pytest.mark.parametrize(
    ("page", "kind", "told"),
    [
        (b"ask elsewhere\n", "Text/Plain; charset=utf-8", "400 Told: ask elsewhere"),
        (b"ask elsewhere\n", "text/html", "400 Told"),
        (b"two\nlines", "text/plain", "400 Told"),
        (b"long " * 100, "text/plain", "400 Told"),
    ],
)
def test_a_line_of_plain_text_is_told(page: bytes, kind: str, told: str) -> None:
    """What the port of TLS says to plain HTTP; pages are not."""
    with Liar(Say(response(page, 400, Content_Type=kind))) as liar:
        with pytest.raises(BadRequest) as caught:
            get(liar)
        assert caught.value.detail == f"the server answered {told}"


def test_a_refusal_keeps_the_connection(pauses: list[float]) -> None:
    """A long page does not: its rest would be taken for the next response."""
    for page, connections in ((b"{}", 1), (b"x" * 200_000, 2)):
        with Liar(Say(response(page, 404))) as liar, Client(liar.url) as client:
            for _ in range(2):
                with pytest.raises(NotFound):
                    client.symbols()
            assert liar.connections == connections
    assert pauses == []


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int, pauses: list[float]) -> None:
    """In seconds, and as a date that is compared with the server's own."""
    date = "Fri, 31 Jan 2025 09:30:{:02} GMT"
    with Liar(
        Say(response(b"", status, Retry_After="7")),
        Say(response(b"", status, Retry_After=date.format(9), Date=date.format(0))),
        honest,
    ) as liar:
        assert is_right(get(liar))
    assert [int(pause) for pause in pauses] == [7, 9]


def test_a_server_that_is_busy_for_long_is_not_waited_for(pauses: list[float]) -> None:
    """The error says how long it would be."""
    busy = Say(response(b"", 503, Retry_After=str(int(PATIENCE_S) + 1)))
    with Liar(busy) as liar, pytest.raises(Unavailable) as caught:
        get(liar)
    assert caught.value.retry_after_s == PATIENCE_S + 1
    assert pauses == []


def test_waits_are_doubled_and_differ(pauses: list[float]) -> None:
    """So that clients of a server that restarts do not come all at once."""
    with Liar(Say(response(b"", 503))) as liar, pytest.raises(Unavailable):
        get(liar)
    assert len(pauses) == ATTEMPTS_MAX - 1
    most = [min(0.1 * 2**index, 2.0) for index in range(len(pauses))]
    assert all(top / 2 <= pause <= top for pause, top in zip(pauses, most, strict=True))
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize(
    "text", ["soon", "-1", "1.5", "", "Fri, 99 Jan 2025 00:00:00 GMT", "²", FAR]
)
def test_a_retry_after_that_is_none_is_as_good_as_missing(text: str) -> None:
    """RFC 9110, 10.2.3: seconds in digits, or a date."""
    assert retry_after_s(text, None, 0.0) is None


def test_a_redirect_is_told_and_not_followed() -> None:
    """The key would go where the answer points."""
    with Liar() as other:
        moved = response(b"", 302, Location=f"{other.url}/elsewhere")
        with Liar(Say(moved)) as liar, pytest.raises(UnexpectedAnswer, match="elsewhere") as caught:
            get(liar)
        assert caught.value.status == 302
        assert other.connections == 0


@pytest.mark.parametrize(
    "say",
    [
        Say(response(b"", 401)),
        Say(response(b"<html>", 500)),
        Say(b"nonsense\r\n\r\n", "close"),
        Say(b"", "reset"),
        Say(response(b"x")),
    ],
    ids=["401", "500", "nonsense", "reset", "x"],
)
@pytest.mark.usefixtures("pauses")
def test_no_error_tells_the_key(say: Say) -> None:
    """Nor what caused it; it was sent, and only as a bearer token."""
    with Liar(say) as liar, pytest.raises(Error) as caught:
        get(liar)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error) + repr(error)
        error = error.__cause__
    assert {head.fields["authorization"] for head in liar.heads} == {f"Bearer {KEY}"}
    assert not any(KEY in head.target for head in liar.heads)
