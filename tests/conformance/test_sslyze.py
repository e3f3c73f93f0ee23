"""sslyze judges the TLS listener: versions, ciphers, and the known attacks on TLS servers.

sslyze wants an older cryptography than the server has, so it gets an environment of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.server import ForkedServer

if TYPE_CHECKING:
    from pathlib import Path

SSLYZE = "sslyze==6.3.1"
INSTALL_S = 240
FORBIDDEN_WORDS = (
    "NULL",
    "anon",
    "EXPORT",
    "RC4",
    "DES",
    "MD5",
    "CBC",
    "TLS_RSA_WITH",
    "SEED",
    "IDEA",
)
AEAD_WORDS = ("_GCM_", "_POLY1305_")
REFUSED_VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
SCANS = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--compression"),
    *("--heartbleed", "--robot", "--openssl_ccs", "--reneg", "--early_data", "--fallback", "--ems"),
    *("--elliptic_curves", "--resum", "--certinfo"),
)
GROUPS = {"X25519", "secp256r1", "secp384r1"}
OF_THE_CERTIFICATE = {"certificate_path_validation", "maximum_certificate_lifespan"}
"""What Mozilla's profile finds wrong with that of the tests, which no public authority issued."""

Scan = tuple[dict[str, Any], str]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_S + 60)]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """The result of each scan of a server with default options, and what is said of the profile."""
    folder = tmp_path_factory.mktemp("sslyze")
    python = install(folder / "venv")
    report = folder / "report.json"
    with ForkedServer(folder, USE_TLS="true") as server:
        address = f"127.0.0.1:{server.tls_port}"
        options = (*SCANS, f"--json_out={report}", "--mozilla_config=intermediate")
        told = subprocess.run(  # it fails for the certificate
            [python, "-W", "ignore", "-m", "sslyze", *options, address],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert not told.stderr
        assert server.event("loop_error") is None
    (result,) = json.loads(report.read_text(encoding="utf-8"))["server_scan_results"]
    assert result["scan_status"] == "COMPLETED"
    scans = result["scan_result"]
    asked = {name: scan for name, scan in scans.items() if scan["status"] != "NOT_SCHEDULED"}
    assert len(asked) == len(SCANS)
    assert {scan["status"] for scan in asked.values()} == {"COMPLETED"}
    return {name: scan["result"] for name, scan in asked.items()}, told.stdout


@pytest.fixture(name="scan", scope="module")
def fixture_scan(scanned: Scan) -> dict[str, Any]:
    """The result of each scan."""
    return scanned[0]


def install(folder: Path) -> str:
    """The Python of a new environment that has sslyze."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SSLYZE],
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{SSLYZE} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return python


def accepted(scan: dict[str, Any], version: str) -> list[str]:
    """The names of the ciphers that are accepted with one version."""
    suites = scan[f"{version}_cipher_suites"]["accepted_cipher_suites"]
    return [suite["cipher_suite"]["name"] for suite in suites]


def test_only_the_two_versions_without_known_faults_are_spoken(scan: dict[str, Any]) -> None:
    """TLS 1.2 and 1.3 accept ciphers, the four before them none; a downgrade is noticed."""
    assert accepted(scan, "tls_1_2")
    assert accepted(scan, "tls_1_3")
    assert [accepted(scan, version) for version in REFUSED_VERSIONS] == [[]] * 4
    assert scan["tls_fallback_scsv"]["supports_fallback_scsv"]


def test_every_cipher_is_authenticated_encryption_with_forward_secrecy(
    scan: dict[str, Any],
) -> None:
    """Of all that sslyze tries, only AEAD comes through, over ephemeral keys."""
    for name in accepted(scan, "tls_1_2") + accepted(scan, "tls_1_3"):
        assert any(word in name for word in AEAD_WORDS), name
        assert not any(word in name for word in FORBIDDEN_WORDS), name
    assert all(name.startswith("TLS_ECDHE_") for name in accepted(scan, "tls_1_2"))


def test_no_known_attack_finds_a_hold(scan: dict[str, Any]) -> None:
    """CRIME, Heartbleed, ROBOT, CCS injection, renegotiation by the client, replayed early data."""
    renegotiation = scan["session_renegotiation"]
    assert not scan["tls_compression"]["supports_compression"]
    assert not scan["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert scan["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert not scan["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert renegotiation["supports_secure_renegotiation"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    assert renegotiation["client_renegotiations_success_count"] == 0
    assert not scan["tls_1_3_early_data"]["supports_early_data"]
    assert scan["tls_extended_master_secret"]["supports_ems_extension"]


def test_mozilla_has_only_the_certificate_to_complain_of(scanned: Scan) -> None:
    """Versions, ciphers, signatures and groups are those of the intermediate profile."""
    _, found, verdict = scanned[1].partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    assert found
    assert "intermediate" in verdict
    assert set(re.findall(r"^ *\* (\w+):", verdict, re.MULTILINE)) == OF_THE_CERTIFICATE


def test_keys_are_exchanged_in_three_groups(scan: dict[str, Any]) -> None:
    """X25519, P-256 and P-384; larger ones would cost a handshake many times the time."""
    assert {curve["name"] for curve in scan["elliptic_curves"]["supported_curves"]} == GROUPS


def test_a_session_is_resumed_by_ticket_and_by_number(scan: dict[str, Any]) -> None:
    """TLS 1.2, one worker: each attempt."""
    for way in ("tls_ticket_resumption_result", "session_id_resumption_result"):
        assert scan["session_resumption"][way] == "FULLY_SUPPORTED"


def test_http2_is_what_a_client_that_offers_both_gets(tmp_path: Path) -> None:
    """ALPN, which sslyze does not look at: the server prefers h2, whatever the client's order."""
    with ForkedServer(tmp_path, USE_TLS="true") as server:
        for offer in (["h2", "http/1.1"], ["http/1.1", "h2"]):
            with server.connect_tls(offer) as sock:
                assert sock.selected_alpn_protocol() == "h2"
