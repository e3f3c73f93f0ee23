"""What the log says of a request, and what it must not say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from zerocopy.core.access import Grant
from zerocopy.core.http.messages import Fields, Request, Response
from zerocopy.core.http.pending import PendingRequest
from zerocopy.observe.access_log import (
    TARGET_CHARS_MAX,
    AccessLog,
    naming,
    request_id,
    shown_target,
)


def pending(target: bytes = b"/healthz", method: bytes = b"GET", *fields: Any) -> PendingRequest:
    """A request that was answered with five bytes."""
    made = PendingRequest(Request(method, target, fields), 0)
    made.response = Response(200, (), b"hello")
    return made


def noted(made: PendingRequest, duration_ns: int = 1_234_567) -> dict[str, Any]:
    """The one line that an access log of everything writes."""
    with capture_logs() as events:
        AccessLog(1.0)("tls", made, duration_ns)
    (event,) = events
    return dict(event)


def test_line_has_what_operators_count_by() -> None:
    """Transport, method, endpoint, status, content bytes, milliseconds, id and target."""
    event = noted(pending(b"/api/data?symbol=A"))
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]+", event.pop("request_id"))
    assert event == {
        "event": "request",
        "log_level": "info",
        "transport": "tls",
        "method": "GET",
        "endpoint": "data",
        "status": 200,
        "bytes": 5,
        "duration_ms": 1.235,
        "complete": True,
        "target": "/api/data?symbol=A",
    }


def test_answer_that_was_cut_off_is_told_with_what_left() -> None:
    """Its bytes are those that were given away; one that never began has no status."""
    cut = pending()
    cut.left_bytes = 2
    never = pending()
    never.response = None
    assert {**noted(cut), "request_id": ""}.items() >= {"bytes": 3, "complete": False}.items()
    assert noted(never).items() >= {"bytes": 0, "complete": False, "status": None}.items()


def test_answer_to_head_has_no_content() -> None:
    """Its Content-Length tells of bytes that are not sent."""
    assert noted(pending(b"/healthz", b"HEAD"))["bytes"] == 0


@pytest.mark.parametrize(
    ("sample", "few", "many"), [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)]
)
def test_sample_is_the_share_of_requests(sample: float, few: int, many: int) -> None:
    """None, all, or about so many of a thousand."""
    log = AccessLog(sample)
    with capture_logs() as events:
        for _ in range(1_000):
            log("plain", pending(), 1)
    assert few <= len(events) <= many


@pytest.mark.parametrize("ray", [b"8f1c2d3e4a5b6c7d-FRA", b"8f1c2d3e4a5b6c7d"])
def test_ray_of_cloudflare_is_kept(ray: bytes) -> None:
    """So that lines can be joined with those of the tunnel and of Cloudflare."""
    assert request_id(pending(b"/", b"GET", (b"cf-ray", ray))) == ray.decode()


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"cf-ray", b""),),
        ((b"cf-ray", b"8f1c2d3e4a5b6c7d-FRA"), (b"cf-ray", b"8f1c2d3e4a5b6c7d-FRA")),
        ((b"cf-ray", b"8f1c2d3e4a5b6c7d-FRA\n"),),
        ((b"cf-ray", b"8f1c2d3e4a5b6c7d\x1b[31m"),),
        ((b"cf-ray", b"x" * 1_000),),
        ((b"cf-ray", b"8f1c 2d3e4a5b"),),
        ((b"cf-ray", "8f1c2d3e4a5b6c7d-É".encode()),),
    ],
)
def test_ray_that_is_none_is_replaced(fields: Fields) -> None:
    """What is not one well-formed value is of no use as a name, and may be an attack."""
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]+", request_id(pending(b"/", b"GET", *fields)))


def test_id_is_one_for_each_request_and_the_same_in_each_of_its_lines() -> None:
    """It is made when the first line is written."""
    one, other = pending(), pending()
    assert (
        request_id(one) == request_id(one) == naming(one)["request_id"] == noted(one)["request_id"]
    )
    assert request_id(one) != request_id(other)
    assert naming(None) == {}


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/api/data?symbol=A&token=s3cret", "/api/data?symbol=A&..."),
        (b"/api/data?s3cret", "/api/data?..."),
        (b"/?symbol%3Ds3cret", "/?..."),
        (b"/api/data?start=1&end=2&&columns=a,b", "/api/data?start=1&end=2&columns=a,b&..."),
        (b"/api/symbols?exchange=a", "/api/symbols?exchange=a"),
        (b"*", "*"),
        (b"", ""),
        (
            b"/\x1b[31m\r\n\x00\x7f\xff\xe2\x80\xa8",
            "/\\x1b[31m\\x0d\\x0a\\x00\\x7f\\xff\\xe2\\x80\\xa8",
        ),
    ],
)
def test_target_shows_what_the_server_reads_and_nothing_else(target: bytes, shown: str) -> None:
    """A parameter that means nothing here may be somebody's secret; bytes are shown as codes."""
    assert shown_target(target) == shown


def test_long_target_and_method_are_cut() -> None:
    """A line stays short whatever was asked for."""
    event = noted(pending(b"/" + b"x" * 8_000, b"M" * 1_000))
    assert event["target"] == "/" + "x" * (TARGET_CHARS_MAX - 1) + "..."
    assert event["method"] == "M" * 16 + "..."


def test_fields_of_a_request_are_not_in_its_line() -> None:
    """Credentials come in fields: none but CF-Ray is looked at."""
    secrets = ((b"authorization", b"Bearer s3cret"), (b"cookie", b"s3cret"), (b"x-key", b"s3cret"))
    made = pending(b"/api/data?symbol=A", b"GET", *secrets)
    assert "s3cret" not in repr(noted(made))
    assert "s3cret" not in repr(naming(made))


def test_line_names_who_asked_and_holds_no_credential() -> None:
    """The name of the key, at once and later; neither the field nor a ticket of the target."""
    target = b"/api/data?symbol=A&ticket=hunter2&token=hunter2"
    made = pending(target, b"GET", (b"authorization", b"Bearer hunter2"))
    assert "key" not in noted(made)
    made.grant = Grant("desk")
    event = noted(made)
    assert event["key"] == "desk"
    assert event["target"] == "/api/data?symbol=A&..."
    assert "hunter2" not in str(event)
    assert naming(made)["key"] == "desk"
    made.request.be_granted(Grant("ops"))
    assert PendingRequest(made.request, 0).grant is made.request.grant
    assert "hunter2" not in repr(made.request.grant)
