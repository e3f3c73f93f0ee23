"""The real command with signed tokens and tickets, over every transport; key sets in files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.blackbox.guarded import (
    LIVE,
    SYMBOLS,
    Guarded,
    ask_by_all,
    bearer,
    end_of,
    everything,
    opened,
)
from tests.contract.transports import TRANSPORTS
from tests.faults.client import SMALL, poll
from tests.issuing import claims, encoded, jwk, private_key, sign, token
from tests.table import case
from zerocopy.access.keys import add_key, revoke_key

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARDED = (
    SMALL, "/api/bars?symbol=BTC-USD&type=SMALL&columns=price&start=0&end=9", SYMBOLS,
    "/api/catalog?symbol=BTC-USD", "/openapi.json",
)  # fmt: skip
INVALID = 'Bearer realm="zerocopy", error="invalid_token"'


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One server for all tests here."""
    guarded = Guarded(tmp_path_factory.mktemp("tokens"))
    with guarded.server:
        yield guarded


def test_a_token_opens_what_a_key_opens(guarded: Guarded) -> None:
    """Each algorithm, by both fields, over each transport; and a key still does."""
    for kind, kid in (("ES256", "one"), ("RS256", "rsa"), ("EdDSA", "ed")):
        word = token(kind, kid, zerocopy={}).decode()
        for fields in (bearer(word), {"Cf-Access-Jwt-Assertion": word}):
            for name, answer in ask_by_all(guarded, SMALL, **fields).items():
                with case(kind, name, *fields):
                    assert answer.status == 200
                    assert answer.fields["cache-control"].startswith("private, ")
    assert guarded.status(guarded.key) == 200


def test_what_proves_nothing_is_401_with_the_reason_for_machines(guarded: Guarded) -> None:
    """RFC 6750 section 3.1: `invalid_token`; and nothing of the token in answer or log."""
    head, payload, signature = everything().decode().split(".")
    none = encoded(b'{"alg":"none"}')
    secret = encoded(json.dumps(claims(sub="hunter2")).encode())
    stranger = sign(
        json.dumps({"alg": "ES256", "kid": "one", "jwk": jwk("ES256", name="stranger")}).encode(),
        json.dumps(claims(zerocopy={})).encode(),
        private_key("ES256", "stranger"),
    )
    words: dict[str, str | bytes] = {
        "alg none": f"{none}.{payload}.{signature}",
        "no signature": f"{head}.{payload}.AAAA",
        "changed": f"{head}.{secret}.{signature}",
        "HS256": everything(header={"alg": "HS256"}),
        "another kid": everything(kid="rsa"),
        "unknown kid": everything(kid="../one"),
        "a key of its own": stranger,
        "jku": everything(header={"jku": "https://127.0.0.1:1/certs"}),
        "crit": everything(header={"crit": ["b64"], "b64": False}),
        "nested": everything(header={"cty": "JWT"}),
        "JWE": f"{head}.{payload}.{payload}.{payload}.{signature}",
        "expired": everything(exp=int(time.time()) - 1),
        "not yet": everything(nbf=int(time.time()) + 900),
        "another issuer": everything(iss="https://evil.example"),
        "another audience": everything(aud="other"),
        "oversized": everything(more="x" * 9_000),
        "a ticket": guarded.ticket(everything()),
    }
    texts = {what: word if isinstance(word, str) else word.decode() for what, word in words.items()}
    assert guarded.server.get(f"{SMALL}&ticket={texts['a ticket']}").status == 200  # seen before
    for what, text in texts.items():
        for fields in (bearer(text), {"Cf-Access-Jwt-Assertion": text}):
            answer = guarded.server.get(SMALL, fields=fields)
            with case(what, *fields):
                assert answer.status in ({401, 431} if what == "oversized" else {401})
                if answer.status == 401:
                    assert answer.fields["www-authenticate"] == INVALID
                assert text.encode() not in answer.content
                assert "hunter2" not in answer.content.decode()
    for name, answer in ask_by_all(guarded, SMALL, **bearer(texts["HS256"])).items():
        with case(name):
            assert answer.status == 401
            assert answer.fields["www-authenticate"] == INVALID
    log = guarded.server.log_text()
    assert not [text for text in texts.values() if text in log or "hunter2" in log]


def test_a_claim_says_what_a_token_may_see(guarded: Guarded) -> None:
    """What it hides is not there; a token without the claim sees nothing."""
    seen = token(zerocopy={"symbols": ["BTC-*"], "types": ["SMALL"]})
    hidden = token(zerocopy={"symbols": ["ETH-*"]})
    for word, status, symbols in ((seen, 200, ["BTC-USD"]), (hidden, 404, []), (token(), 404, [])):
        assert guarded.status(word, SMALL) == status
        listed = guarded.server.get(SYMBOLS, fields=bearer(word))
        assert json.loads(listed.content)["symbols"] == symbols


def test_a_request_that_was_seen_before_is_asked_for_its_token_again(guarded: Guarded) -> None:
    """A head that is kept with its grant is refused the moment that ends, on every transport."""
    fields = [*bearer(everything(exp=int(time.time()) + 4)).items()]
    sessions = {name: each.connect(guarded.server) for name, each in TRANSPORTS.items()}
    for _ in range(2):
        for session in sessions.values():
            assert session.request(SMALL, fields=fields).status == 200
    for name, session in sessions.items():
        poll(lambda: session.request(SMALL, fields=fields).status == 401, name)  # noqa: B023
        session.close()


# ---- tickets


def test_a_ticket_opens_every_guarded_target_over_every_transport(guarded: Guarded) -> None:
    """Also in front of other parameters, and alone; the answer is that of the field."""
    for word in (guarded.key, everything()):
        ticket = guarded.ticket(word)
        for target in GUARDED:
            mark = "&" if "?" in target else "?"
            plain = guarded.server.get(target, fields=bearer(word))
            for name, answer in ask_by_all(guarded, f"{target}{mark}ticket={ticket}").items():
                with case(target, name):
                    assert answer.status == 200
                    assert answer.content == plain.content
                    assert answer.fields.get("etag") == plain.fields.get("etag")
        front = SMALL.replace("?", f"?ticket={ticket}&")
        assert (
            guarded.server.get(front).content
            == guarded.server.get(SMALL, fields=bearer(word)).content
        )


def test_a_kept_answer_is_shared_with_tickets(guarded: Guarded) -> None:
    """The service sees a target without its ticket: no new plan for each of them."""
    guarded.status(guarded.key, SMALL)
    for _ in range(8):  # both workers have it
        guarded.status(guarded.key, SMALL)
    made = guarded.server.metric("zerocopy_plans_made_total")
    for _ in range(4):
        assert guarded.server.get(f"{SMALL}&ticket={guarded.ticket(guarded.key)}").status == 200
    assert guarded.server.metric("zerocopy_plans_made_total") <= made + 1


def test_a_ticket_is_made_by_post_alone(guarded: Guarded) -> None:
    """405 with what is right; a preflight allows POST there, and nowhere else."""
    word = guarded.key
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = guarded.server.get("/api/ticket", method=method, fields=bearer(word))
        assert answer.status == 405
        assert answer.fields["allow"] == "POST, OPTIONS"
    for name, answer in ask_by_all(guarded, "/api/ticket", "POST", **bearer(word)).items():
        with case(name):
            assert answer.status == 200
            assert answer.fields["cache-control"] == "no-store"
            assert answer.fields["access-control-allow-origin"] == "*"
            assert json.loads(answer.content).keys() == {"ticket", "expires_s"}
            assert json.loads(answer.content)["expires_s"] == 60
    asks = {"Origin": "https://a.example", "Access-Control-Request-Headers": "authorization"}
    for name, answer in ask_by_all(guarded, "/api/ticket", "OPTIONS", **asks).items():
        with case(name):
            assert answer.status == 204
            assert answer.fields["access-control-allow-methods"] == "POST, OPTIONS"
            assert answer.fields["access-control-allow-headers"] == "authorization"
    other = guarded.server.get(SMALL, method="OPTIONS", fields=asks)
    assert "POST" not in other.fields["access-control-allow-methods"]
    assert guarded.server.get(SMALL, method="POST", fields=bearer(word)).status == 405


def test_content_of_a_post_is_dropped(guarded: Guarded) -> None:
    """A client may send some; the connection goes on behind it."""
    with socket.create_connection(("127.0.0.1", guarded.server.port), 20) as sock:
        head = f"Host: a\r\nAuthorization: Bearer {guarded.key}\r\n"
        post = f"POST /api/ticket HTTP/1.1\r\n{head}Content-Length: 5\r\n\r\nhello"
        get = f"GET {SYMBOLS} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
        sock.sendall((post + get).encode())
        received = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b'"ticket"' in received
    assert received.endswith(b"}")


def test_nobody_makes_a_ticket_without_a_key_or_token(guarded: Guarded) -> None:
    """Neither without anything, nor with a ticket, nor with a wrong key."""
    ticket = guarded.ticket(guarded.key)
    for target, fields in (
        ("/api/ticket", {}),
        (f"/api/ticket?ticket={ticket}", {}),
        ("/api/ticket", bearer(ticket)),
        (f"/api/ticket?ticket={ticket}", bearer("zc_wrong")),
    ):
        assert guarded.server.get(target, method="POST", fields=fields).status == 401


def test_a_request_for_a_ticket_counts_as_any_other(guarded: Guarded) -> None:
    """Against the limit of its key, and under its name in the log."""
    key = add_key(str(guarded.keys), "thrifty", requests_per_s=1)
    poll(lambda: guarded.status(key) in {200, 429}, "the new key")

    def is_limited() -> bool:
        answer = guarded.server.get("/api/ticket", method="POST", fields=bearer(key))
        return answer.status == 429 and "retry-after" in answer.fields

    poll(is_limited, "429")
    poll(lambda: "thrifty" in names_of(guarded, "/api/ticket"), "a line with the name")


def names_of(guarded: Guarded, target: str) -> set[str]:
    """Whose requests for `target` the access log has."""
    return {
        event.get("key", "")
        for event in guarded.server.events()
        if event["event"] == "request" and event["target"] == target
    }


def test_a_wrong_ticket_opens_nothing(guarded: Guarded) -> None:
    """Changed, empty, twice, in another spelling, or beside a key that is wrong."""
    ticket = guarded.ticket(guarded.key)
    for query in (
        "ticket=", f"ticket={ticket}x", f"ticket={ticket}&ticket={ticket}",
        f"ticket={ticket[:-1]}", f"%74icket={ticket}", f"Ticket={ticket}",
        urlencode({"ticket": f"{ticket} "}),
    ):  # fmt: skip
        answer = guarded.server.get(f"{SMALL}&{query}")
        with case(query):
            assert answer.status == 401
            assert ticket.encode() not in answer.content
    assert guarded.server.get(f"{SMALL}&ticket={ticket}", fields=bearer("zc_no")).status == 401
    assert guarded.server.get(f"{SMALL}&ticket={ticket}x", fields=bearer(guarded.key)).status == 200


def test_a_ticket_is_in_no_line_of_the_log(guarded: Guarded) -> None:
    """The access log holds the target without what it does not know."""
    ticket = guarded.ticket(guarded.key)
    assert guarded.server.get(f"{SMALL}&ticket={ticket}").status == 200
    assert guarded.server.get(f"{SMALL}&columns=none&ticket={ticket}").status == 400
    poll(lambda: "ticket=" in shown(guarded) or "&..." in shown(guarded), "the line")
    assert ticket not in guarded.server.log_text()
    assert "ticket=" not in guarded.server.log_text()


def shown(guarded: Guarded) -> str:
    """The targets that the access log has."""
    return " ".join(
        event["target"] for event in guarded.server.events() if event["event"] == "request"
    )


def test_any_worker_opens_a_ticket_also_one_that_was_started_since(guarded: Guarded) -> None:
    """The secret is the supervisor's: it outlives a worker that dies."""
    ticket = guarded.ticket(guarded.key)
    target = f"{SYMBOLS}?ticket={ticket}"

    def workers() -> set[int]:
        return {
            int(event["worker"])
            for event in guarded.server.events()
            if event["event"] == "request" and event["target"].startswith(f"{SYMBOLS}?...")
        }

    def is_opened_by_both() -> bool:
        assert guarded.server.get(target).status == 200
        return workers() >= {0, 1}

    poll(is_opened_by_both, "both workers")
    before = guarded.server.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    poll(lambda: len(set(guarded.server.worker_pids()) - set(before)) == 1, "a new worker")
    poll(lambda: guarded.server.metric("zerocopy_workers") == 2, "two workers")
    for _ in range(8):
        assert guarded.server.get(target).status == 200


def read_until_the_end(process: subprocess.Popen[bytes]) -> bytes:
    """What curl wrote until the server ended the stream."""
    content, _ = process.communicate(timeout=45)
    return content


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_an_event_source_with_a_ticket_lives_until_its_key_is_revoked(guarded: Guarded) -> None:
    """What a browser does: only an URL. It is told of the end, and opens nothing more."""
    keys = str(guarded.keys)
    key = add_key(keys, "browser")
    guarded.wait_for(key, 200)
    ticket = guarded.ticket(key)
    url = f"http://127.0.0.1:{guarded.server.port}{LIVE}&ticket={ticket}"
    with subprocess.Popen(["curl", "-sSN", "--fail", url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        opened = curl.stdout.read(100)
        assert b"id:" in opened
        revoke_key(keys, "browser")
        read_until_the_end(curl)
        assert curl.returncode in {0, 18}  # 18: ended amid what has no length
    guarded.wait_for(key, 401)
    guarded.wait_for("", 401, f"{SMALL}&ticket={ticket}")


def test_a_web_socket_opens_by_a_ticket(guarded: Guarded) -> None:
    """A browser's WebSocket sets no field either; without a right ticket the handshake is 401."""
    url = f"ws://127.0.0.1:{guarded.server.port}{LIVE}"
    with connect(f"{url}&ticket={guarded.ticket(guarded.key)}", proxy=None) as socket_:
        assert b'"cursor"' in bytes(socket_.recv(30))  # type: ignore[arg-type]
    for wrong in (url, f"{url}&ticket=x.y"):
        with pytest.raises(InvalidStatus) as caught:
            connect(wrong, proxy=None)
        assert caught.value.response.status_code == 401


def test_a_page_of_another_origin_opens_no_web_socket_by_the_login_of_its_reader(
    guarded: Guarded,
) -> None:
    """Cloudflare adds its field to what a browser sends with its cookie, whatever page it is on."""
    port = guarded.server.port
    url = f"ws://127.0.0.1:{port}{LIVE}"
    login = {"Cf-Access-Jwt-Assertion": everything().decode()}
    ours: list[tuple[dict[str, str], str | None]] = [
        ({}, None),
        ({}, f"http://127.0.0.1:{port}"),
        ({"X-Forwarded-Host": "data.example.com"}, "https://Data.example.com"),
    ]
    for more, origin in ours:
        with connect(
            url,
            origin=None if origin is None else Origin(origin),
            additional_headers=login | more,
            proxy=None,
        ) as socket_:
            assert socket_.recv(30)
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{port + 1}", "http://"):
        with pytest.raises(InvalidStatus) as caught:
            connect(url, origin=Origin(origin), additional_headers=login, proxy=None)
        assert caught.value.response.status_code == 401
    word = {"Authorization": f"Bearer {guarded.key}"}
    with connect(url, origin=Origin("https://a.example"), additional_headers=word, proxy=None):
        pass
    ticket = f"{url}&ticket={guarded.ticket(guarded.key)}"
    with connect(ticket, origin=Origin("https://a.example"), additional_headers=login, proxy=None):
        pass


def test_a_token_that_runs_out_ends_its_stream_then(guarded: Guarded) -> None:
    """Not at the next message, nor at the heartbeat 15 s later; by field and by ticket."""
    end_s = int(time.time()) + 4
    word = everything(exp=end_s)
    ticket = guarded.ticket(word)
    streams = (
        opened(guarded, LIVE, f"Authorization: Bearer {word.decode()}\r\n"),
        opened(guarded, f"{LIVE}&ticket={ticket}"),
    )
    for sock in streams:
        assert end_s <= end_of(sock) < end_s + 10


def test_a_key_that_leaves_the_set_ends_streams_and_tickets(guarded: Guarded) -> None:
    """Within a look at the file: what it signed proves nothing; what others signed goes on."""
    lost, kept = everything(), token("RS256", "rsa", zerocopy={})
    tickets = {"lost": guarded.ticket(lost), "kept": guarded.ticket(kept)}
    stream = opened(guarded, LIVE, f"Authorization: Bearer {lost.decode()}\r\n")
    guarded.publish(jwk("RS256", "rsa"), jwk("EdDSA", "ed"))
    end_of(stream)
    guarded.wait_for(lost, 401)
    guarded.wait_for("", 401, f"{SYMBOLS}?ticket={tickets['lost']}")
    for _ in range(8):
        assert guarded.status(kept) == 200
        assert guarded.server.get(f"{SYMBOLS}?ticket={tickets['kept']}").status == 200
    guarded.publish(jwk("ES256", "one"), jwk("RS256", "rsa"), jwk("EdDSA", "ed"))
    guarded.wait_for(lost, 200)
