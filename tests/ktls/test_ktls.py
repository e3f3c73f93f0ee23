"""Kernel TLS: what Python, OpenSSL and Linux do together, and the server over it.

Four runs of a virtual machine: the facts the server relies on, the server itself, and the contract
suite over HTTP/1.1 and over HTTP/2. Where the machine cannot run, each test says what is missing.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.ktls.guest.serve import RECORDS_PER_DAY
from tests.ktls.machine import RUN_TIMEOUT_S, Unavailable, machine
from tests.ticks import make_ticks, ticks_body

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)

CONTRACT_TIMEOUT_S = 1_800.0
"""The suite takes minutes of an emulated processor over one wire, and more beside other work."""

CONTRACT_TESTS_MIN = 230
"""There are 241; fewer would mean that they were not found."""

CONTRACT_CONNECTIONS_MIN = {"http1-tls": 250, "http2": 80}
"""HTTP/2 keeps a connection for many tests."""

KERNEL_NUMBERS = {
    "TLSv1.2": 0x0303,
    "TLSv1.3": 0x0304,
    "AES_128_GCM": 51,
    "AES128-GCM": 51,
    "AES_256_GCM": 52,
    "AES256-GCM": 52,
    "CHACHA20": 54,
}
"""Of linux/tls.h: versions and ciphers."""


def run(
    module: str, *arguments: str, timeout_s: float = RUN_TIMEOUT_S, **data: str
) -> dict[str, Any]:
    """The JSON objects that a program prints in the virtual machine, joined."""
    try:
        ended = machine().run(
            ["-m", f"tests.ktls.guest.{module}", *arguments],
            data={f"/{name}": path for name, path in data.items()},
            timeout_s=timeout_s,
        )
    except Unavailable as error:
        pytest.skip(str(error))
    assert ended.status == 0, ended.log
    joined: dict[str, Any] = {}
    for line in filter(lambda line: line.startswith("{"), ended.output.splitlines()):
        joined |= json.loads(line)
    return joined


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What the virtual machine found out."""
    found = run("facts")
    if not any(state["BIO_get_ktls_send"] for state in found["detection"].values()):
        pytest.skip(f"{found['versions']['openssl']} is not built for kernel TLS")
    return found


def test_the_kernel_says_which_connections_it_encrypts(facts: dict[str, Any]) -> None:
    """getsockopt(2) tells version and cipher, and OpenSSL agrees; without the option, neither."""
    for name, state in facts["detection"].items():
        is_asked = not name.endswith("without OP_ENABLE_KTLS")
        assert state["BIO_get_ktls_send"] == is_asked
        if is_asked:
            version, cipher = (number for part, number in KERNEL_NUMBERS.items() if part in name)
            assert state["TLS_TX"] == f"version {version:#06x} cipher {cipher}"
            assert "tls" in state["TCP_ULP"]
        else:
            assert "Errno" in state["TLS_TX"]
            assert "tls" not in state["TCP_ULP"]


def test_sendfile_sends_the_file(facts: dict[str, Any]) -> None:
    """A client that decrypts in user space reads the same bytes, for each version and cipher."""
    assert len(facts["whole_file"]) == 6
    for found in facts["whole_file"].values():
        assert found["equal"]
        assert found["end"] == "both close_notify"


def test_a_full_socket_takes_the_rest_later(facts: dict[str, Any]) -> None:
    """EAGAIN loses and doubles nothing; what was counted as sent needs no other call to arrive."""
    found = facts["partial_sends"]
    assert found["equal"]
    assert not found["writable when full"]
    assert found["afterwards"]["EAGAIN"] > 0
    assert facts["stopped_half_way"]["equal"]


def test_writes_and_files_keep_their_order(facts: dict[str, Any]) -> None:
    """SSLSocket.write and sendfile(2) by turns, full sockets in between; requests both ways."""
    for found in facts["mixed"].values():
        assert found == {"equal": True, "end": "both close_notify"}
    for found in facts["requests"].values():
        assert found == {"equal": True, "end": "both close_notify", "rest": 0}
    assert facts["tickets"]["equal"]
    assert facts["tickets"]["rest"]


def test_a_write_that_waits_is_repeated_first(facts: dict[str, Any]) -> None:
    """OpenSSL has sent a part of it: a file in between lands inside, other bytes are refused."""
    assert facts["big_write"]["ktls"] == facts["big_write"]["user space"]
    assert facts["big_write"]["ktls"]["equal"]
    assert "BAD_LENGTH" in facts["shorter_retry"]["ktls"]["write"]
    assert 0 < facts["want_write_then_sendfile"]["file after"] < 1 << 20


def test_more_to_come_joins_head_and_file(facts: dict[str, Any]) -> None:
    """send(2) with MSG_MORE saves a record, and nothing stays behind at the end."""
    found = facts["raw_send"]
    assert all(each["equal"] for each in found.values())
    written = len(found["SSLSocket.write"]["records"])
    for name in ("send MSG_MORE", "sendmsg MSG_MORE"):
        assert len(found[name]["records"]) == written - 1
    assert facts["raw_send_full"]["equal"]
    assert facts["held_back"] == {"within a second": False, "with the next write": True}


def test_new_keys_never_give_wrong_bytes(facts: dict[str, Any]) -> None:
    """A KeyUpdate (RFC 8446 section 4.6.3) works, or the client refuses what follows."""
    for steps in facts["key_update"].values():
        assert steps["client reads"] is True or "SSLError" in steps["client reads"]
    assert facts["key_update"]["ktls, client's alone"]["client reads"] is True


def test_an_end_is_told_from_a_cut(facts: dict[str, Any]) -> None:
    """close_notify ends; a close without, and a reset, are errors to the client."""
    found = facts["endings"]
    assert "SSLEOFError" in found["close"]
    assert "ConnectionResetError" in found["reset"]
    assert found["close_notify"] == 30_000
    full = facts["end_of_a_full_socket"]
    # It waits for room, or for the client's, where the client's kernel has just made some.
    assert full["first"].startswith(("SSLWantWriteError", "SSLWantReadError"))
    assert full["later"] == "both close_notify"
    assert full["equal"]
    assert facts["truncated"] == {"first": 1000, "second": 0, "arrived": True}


def test_every_response_is_the_plain_one(tmp_path: Path) -> None:
    """Status, fields and body of each request are those of the plain listener, and of the files."""
    root = str(tmp_path)
    make_ticks(root, RECORDS_PER_DAY)
    served = run("serve", data=root)
    kernel, sent = served.pop("kernel"), served.pop("sent")
    connections = served.pop("connections")
    assert len(served) == 7
    assert {name: told for name, told in served.items() if told["differences"]} == {}
    assert served["whole"]["sha256"] == hashlib.sha256(ticks_body(root)).hexdigest()
    large = sum(served[name]["bytes"] for name in ("whole", "one column", "range"))
    assert sent["sendfile"] > 2 * 0.99 * large, "over both listeners"
    assert connections == kernel["TlsTxSw"] == 1
    assert kernel["TlsDecryptError"] == 0


@pytest.mark.timeout(CONTRACT_TIMEOUT_S + 60)
@pytest.mark.parametrize("wire", CONTRACT_CONNECTIONS_MIN)
def test_the_contract_holds_where_the_kernel_encrypts(wire: str) -> None:
    """Twelve of the contract's 18 modules pass, on connections of the kernel's."""
    found = run("contract", wire, timeout_s=CONTRACT_TIMEOUT_S)
    assert found["failures"] == []
    assert found["passed"] >= CONTRACT_TESTS_MIN
    encrypted = found["servers"]["encrypted by the kernel"]
    assert encrypted == found["kernel"]["TlsTxSw"] >= CONTRACT_CONNECTIONS_MIN[wire]
    assert found["kernel"]["TlsDecryptError"] == 0
