"""What an attacker sends in names and fields, and must not find in answers or the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.contract.site import Site, data_target, serve
from tests.storage.trees import DAY_START_S, SERIES, marks, put, u32
from tests.table import each

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.transports import Transport
    from tests.server import Answer

HOSTILE = [
    "A\r\nSet-Cookie: a=b",
    "A\nInjected: 1",
    "A\r\n\r\nHTTP/1.1 200 OK",
    "A\x00",
    "A\x1b[2J",
    "A\u2028B",
    "../A",
    "..%2fA",
    "A/../../etc",
    "%0d%0aX: y",
    "{jndi:ldap://a}",
    "A;rm -rf",
    "'\"<script>",
]
UNSORTED = SERIES._replace(symbol="UNSORTED")
PARAMETERS = ["exchange", "symbol", "type", "columns"]
TELLTALES = ["Traceback", "Errno", ".py", "site-packages", "asyncio", "msgspec", "0x"]


def fields_are_ours(answer: Answer) -> bool:
    """Whether no field came from the request."""
    return not {"set-cookie", "injected", "x"} & answer.fields.keys()


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_hostile_names_are_refused_and_go_nowhere(site: Site, parameter: str) -> None:
    """400 that names the parameter; nothing of the name is in the answer's fields or its text."""
    values = {"symbol": "A", "type": "MD", "start": "0", "end": "9", "columns": "time"}
    with site.session() as session:
        for name in HOSTILE:
            wanted = {**values, parameter: name}
            query = "&".join(f"{key}={quote(value, safe='')}" for key, value in wanted.items())
            answer = session.request(f"/api/data?{query}")
            assert answer.status == 400, name
            assert fields_are_ours(answer)
            problem = json.loads(answer.content)
            assert problem["detail"].startswith(f"parameter {parameter}")
            assert name not in problem["detail"]


@each("wanted", ["x\u00e9", "a" * 2_000, "a\tb", 'a"b', "a;b", "a:b", "<script>"])
def test_preflight_reflects_only_names_of_fields(site: Site, wanted: str) -> None:
    """What a browser wants to send is repeated to it only where it is a list of tokens."""
    fields = [("Origin", "https://a.example"), ("Access-Control-Request-Headers", wanted)]
    answer = site.ask("/api/data", method="OPTIONS", fields=fields)
    assert answer.status == 204
    assert "access-control-allow-headers" not in answer.fields


def test_origin_is_never_reflected_and_credentials_never_allowed(site: Site) -> None:
    """Any origin may read what everybody may read, and nothing in somebody's name."""
    for method in ("GET", "OPTIONS"):
        for origin in ("https://a.example", "null", "file://"):
            answer = site.ask("/healthz", method=method, fields=[("Origin", origin)])
            assert answer.fields["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.fields


@each("target", ["/metrics", "/docs", "/admin", "/.git/config", "/api", "/api/"])
def test_nothing_but_the_interface_is_served(site: Site, target: str) -> None:
    """Metrics have a listener of their own; there is no directory, no file, no console."""
    assert site.ask(target).status == 404


def test_errors_and_log_tell_no_secrets(transport: Transport, tmp_path: Path) -> None:
    """No path, no library, no name of a class in an answer; nothing a client sent in the log.

    Each line of the log is one JSON object, whatever was asked for.
    """
    root = str(tmp_path / "secret-root")
    put(root, {"time": u32(DAY_START_S, DAY_START_S + 1), "price": marks(2)})
    put(root, {"time": u32(DAY_START_S + 9, DAY_START_S), "price": marks(2)}, series=UNSORTED)
    target = data_target(SERIES)
    with serve(transport, root) as site:
        answers = [
            site.ask("/api/data?token=hunter2%0d%0aevil"),
            site.ask(target + "&token=hunter2", fields=[("Range", "bytes=9999-")]),
            site.ask(target + "&token=hunter2", fields=[("If-Match", '"hunter2"')]),
            site.ask(target + "&token=hunter2", fields=[("Authorization", "hunter2")]),
            site.ask(data_target(SERIES, columns=("hunter2",))),
            site.ask("/hunter2"),
            site.ask("/healthz?" + "hunter2" * 2_000),
            site.ask("/healthz", fields=[("X", "hunter2" * 2_000)]),
            site.ask(target, method="DELETE"),
            site.ask(data_target(UNSORTED)),
        ]
        log = site.server.log_text()
    statuses = [answer.status for answer in answers]
    assert statuses == [400, 416, 412, 200, 404, 404, 414, 431, 405, 500]
    for answer in answers:
        if answer.status != 200:
            text = answer.content.decode()
            assert not [word for word in (*TELLTALES, root, "secret") if word in text]
            assert json.loads(text).keys() == {"type", "title", "status", "detail"}
    assert "hunter2" not in log
    for line in log.splitlines():
        assert isinstance(json.loads(line), dict)
