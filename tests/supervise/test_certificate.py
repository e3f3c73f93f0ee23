"""TLS: which files, versions, ciphers and protocols a server takes."""

from __future__ import annotations

import datetime as dt
import errno
import os
import ssl
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.terminal import open_terminal
from tests.tls import CA, LEAF, OTHER, V12, VERSIONS, Pair, handshake, make_pair, trusting
from zerocopy.core.errors import ConfigError
from zerocopy.supervise.certificate import PemCopies, make_context, validity_of, validity_warning

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65_534


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A good pair."""
    return make_pair(tmp_path)


def private_pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    form: PrivateFormat,
    passphrase: bytes = b"",
) -> bytes:
    """A key as PEM of one of the three forms."""
    encryption: serialization.KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, form, encryption)


def key_of(leaf: trustme.LeafCert) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """The private key of a certificate."""
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


@pytest.mark.parametrize(
    ("form", "label"),
    [(PrivateFormat.PKCS8, "PRIVATE KEY"), (PrivateFormat.TraditionalOpenSSL, "EC PRIVATE KEY")],
)
def test_elliptic_keys_are_read_in_both_forms(pair: Pair, form: PrivateFormat, label: str) -> None:
    """PKCS#8 and SEC 1."""
    pair.key.write_bytes(pem := private_pem(key_of(LEAF), form))
    assert pem.startswith(f"-----BEGIN {label}-----".encode())
    handshake(pair.context(), trusting())


def test_rsa_keys_are_read_in_both_forms(pair: Pair) -> None:
    """PKCS#1 and PKCS#8; a certificate of one kind and a key of the other do not match."""
    leaf = CA.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    pair.cert.write_bytes(leaf.cert_chain_pems[0].bytes())
    assert "does not belong to a.crt" in pair.refusal()
    for form, label in (
        (PrivateFormat.PKCS8, b"-----BEGIN PRIVATE KEY-----"),
        (PrivateFormat.TraditionalOpenSSL, b"-----BEGIN RSA PRIVATE KEY-----"),
    ):
        pair.key.write_bytes(pem := private_pem(key_of(leaf), form))
        assert pem.startswith(label)
        handshake(pair.context(), trusting())


def test_chain_is_sent(pair: Pair) -> None:
    """A client that knows the root alone accepts a leaf below an intermediate; comments too."""
    leaf = CA.create_child_ca().issue_cert("localhost")
    pair.write(leaf)
    chain = "Bag Attributes: gr\u00fcn\r\n".encode() + pair.cert.read_bytes()
    pair.cert.write_bytes(chain.replace(b"\n", b"\r\n"))
    handshake(pair.context(), trusting())
    pair.cert.write_bytes(leaf.cert_chain_pems[0].bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pair.context(), trusting())


DER = "holds no {} in PEM form; it looks like DER, which `openssl {} -inform der` makes PEM of"
BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("option", "spoil", "sentence"),
    [
        (
            "cert_path",
            lambda path: path.unlink(),
            "does not exist; `zerocopy certs` makes a pair for development",
        ),
        ("cert_path", lambda path: path.write_bytes(b""), "holds no certificate in PEM form"),
        (
            "cert_path",
            lambda path: path.write_bytes(BROKEN),
            "holds a broken certificate, number 1",
        ),
        (
            "cert_path",
            lambda path: path.write_bytes(path.read_bytes() + BROKEN),
            "holds a broken certificate, number 2",
        ),
        (
            "cert_path",
            lambda path: path.write_bytes(ssl.PEM_cert_to_DER_cert(path.read_text())),
            DER.format("certificate", "x509"),
        ),
        (
            "cert_path",
            lambda path: path.write_bytes(LEAF.private_key_pem.bytes()),
            "holds a private key and no certificate",
        ),
        (
            "key_path",
            lambda path: path.unlink(),
            "does not exist; `zerocopy certs` makes a pair for development",
        ),
        ("key_path", lambda path: path.write_bytes(b"junk"), "holds no private key in PEM form"),
        (
            "key_path",
            lambda path: path.write_bytes(BROKEN.replace(b"CERTIFICATE", b"PRIVATE KEY")),
            "holds a private key that OpenSSL cannot read",
        ),
        (
            "key_path",
            lambda path: path.write_bytes(LEAF.cert_chain_pems[0].bytes()),
            "holds a certificate and no private key",
        ),
        (
            "key_path",
            lambda path: path.write_bytes(OTHER.private_key_pem.bytes()),
            "does not belong to a.crt, whose first certificate is the server's own",
        ),
        (
            "key_path",
            lambda path: path.write_bytes(
                key_of(LEAF).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            ),
            DER.format("private key", "pkey"),
        ),
    ],
)
def test_file_that_is_wrong_is_named_with_its_option_and_what_is_wrong(
    pair: Pair, option: str, spoil: Callable[[Path], object], sentence: str
) -> None:
    """In one line of our own words."""
    path = pair.cert if option == "cert_path" else pair.key
    spoil(path)
    assert pair.refusal() == f"[tls] {option}: {path.name} {sentence}"


@pytest.mark.parametrize("option", ["cert_path", "key_path"])
def test_path_that_is_no_file_is_named(pair: Pair, option: str) -> None:
    """A directory, a loop of links, and what cannot be a path; a line break in it is escaped."""
    path = pair.cert if option == "cert_path" else pair.key
    path.unlink()
    path.mkdir()
    assert pair.refusal() == f"[tls] {option}: {path.name} is a directory, not a PEM file"
    path.rmdir()
    path.symlink_to(path)
    assert "cannot be read: Too many levels of symbolic links" in pair.refusal()
    for name, sentence in (("a\n\x1b", "a\\n\\x1b does not exist"), ("a\0", "a\\x00 is not")):
        paths = {"cert_path": str(pair.cert), "key_path": str(pair.key), option: name}
        with pytest.raises(ConfigError) as caught:
            make_context(paths["cert_path"], paths["key_path"])
        assert f"[tls] {option}: {sentence}" in caught.value.detail


def test_file_that_may_not_be_read_is_named(pair: Pair) -> None:
    """The key of another user, the commonest mistake of all."""
    pair.key.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)  # root may read every file
    try:
        refusal = pair.refusal()
    finally:
        os.seteuid(before)
    assert "cannot be read: Permission denied" in refusal


def test_certificate_that_is_too_weak_is_named(pair: Pair) -> None:
    """RSA of 1024 bits: OpenSSL refuses it at the security level that it has by default."""
    key = rsa.generate_private_key(65_537, 1_024)
    parent = x509.load_pem_x509_certificate(LEAF.cert_chain_pems[0].bytes())
    weak = x509.CertificateBuilder(
        parent.issuer,
        parent.subject,
        key.public_key(),
        7,
        parent.not_valid_before_utc,
        parent.not_valid_after_utc,
    ).sign(key, hashes.SHA256())
    pair.cert.write_bytes(weak.public_bytes(Encoding.PEM))
    pair.key.write_bytes(private_pem(key, PrivateFormat.PKCS8))
    assert "cert_path: a.crt is too weak for OpenSSL (EE_KEY_TOO_SMALL)" in pair.refusal()


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key_is_refused_and_never_asked_about(pair: Pair, form: PrivateFormat) -> None:
    """On a terminal of its own, where OpenSSL would prompt: nothing is written to it."""
    pair.key.write_bytes(private_pem(key_of(LEAF), form, b"secret"))
    assert pair.refusal().startswith("[tls] key_path: a.key is encrypted, and nobody is there")
    program = (
        "import fcntl, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from zerocopy.supervise.certificate import make_context\n"
        "from zerocopy.core.errors import ConfigError\n"
        "try: make_context(*sys.argv[1:])\n"
        "except ConfigError: print('refused')\n"
    )
    ours, theirs = open_terminal()
    done = subprocess.run(
        [sys.executable, "-c", program, str(pair.cert), str(pair.key)],
        check=True,
        stdin=theirs,
        capture_output=True,
        start_new_session=True,
        timeout=20,
        cwd=Path(__file__).parents[2],
    )
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 100)
    os.close(theirs)
    os.close(ours)
    assert (done.stdout, done.stderr) == (b"refused\n", b"")


@VERSIONS
def test_versions_from_12_on_are_accepted(pair: Pair, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and TLS 1.3."""
    client = trusting(minimum_version=version, maximum_version=version)
    assert handshake(pair.context(), client).version() == version.name.replace("_", ".")


def test_version_11_is_refused(pair: Pair) -> None:
    """Even when the client would use it with any cipher."""
    context = pair.context()
    client = trusting()
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = ssl.TLSVersion.TLSv1
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"):
        handshake(context, client)


def test_ciphers_of_12_are_forward_secret_and_aead(pair: Pair) -> None:
    """A client that has only CBC is refused; each that is offered can be used."""
    context = pair.context()
    client = trusting(maximum_version=V12)
    client.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        handshake(context, client)
    offered = [cipher["name"] for cipher in context.get_ciphers()]
    assert {name for name in offered if name.startswith(("ECDHE-RSA-", "TLS_"))} == {
        *("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        *("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"),
        "ECDHE-RSA-CHACHA20-POLY1305",
    }
    assert {name.replace("ECDSA", "RSA") for name in offered} < set(offered)
    for name in offered:
        if name.startswith("ECDHE-ECDSA-"):
            client.set_ciphers(name)
            assert handshake(context, client).cipher() == (
                name,
                "TLSv1.2",
                256 - 128 * ("128" in name),
            )


def test_options_forbid_compression_and_renegotiation(pair: Pair) -> None:
    """RFC 9113 section 9.2.1."""
    wanted = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    assert pair.context().options & wanted == wanted


@pytest.mark.parametrize("year", [2049, 2050])
def test_validity_is_what_the_certificate_says(pair: Pair, year: int) -> None:
    """In both forms of RFC 5280 section 4.1.2.5: two digits of a year until 2049, then four."""
    end = dt.datetime(year, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    start = dt.datetime(1999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    pair.write(CA.issue_cert("localhost", not_before=start, not_after=end))
    assert validity_of(str(pair.cert)) == (start, end)


def test_certificate_that_clients_refuse_is_a_warning(pair: Pair) -> None:
    """Too early, too late or soon too late: one line, and the server starts all the same."""
    end = dt.datetime(2026, 3, 31, 12, tzinfo=dt.UTC)
    start = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    pair.write(CA.issue_cert("localhost", not_before=start, not_after=end))
    pair.context()
    second, label = dt.timedelta(seconds=1), f"[tls] cert_path: {pair.cert}"
    for now, warning in (
        (start - second, f"{label} is not valid before 2026-03-01 12:00:00 UTC"),
        (start, None),
        (end - dt.timedelta(7), None),
        (end - dt.timedelta(7) + second, f"{label} expires on 2026-03-31 12:00:00 UTC"),
        (end, f"{label} expires on 2026-03-31 12:00:00 UTC"),
        (end + second, f"{label} expired on 2026-03-31 12:00:00 UTC"),
    ):
        assert validity_warning(str(pair.cert), now) == warning


def test_copies_that_cannot_be_made_leave_no_descriptor(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload that runs out of descriptors takes none with it."""
    create, made = os.memfd_create, list[int]()

    def create_one(name: str) -> int:
        if made:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(create(name))
        return made[0]

    monkeypatch.setattr(os, "memfd_create", create_one)
    with pytest.raises(OSError, match="Too many"):
        PemCopies(str(pair.cert), str(pair.key))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made[0])


@pytest.mark.parametrize("serial", [b"\x00", b"\xf9"], ids=["zero", "negative"])
def test_certificate_of_an_odd_issuer_starts_without_a_word(pair: Pair, serial: bytes) -> None:
    """A serial number that RFC 5280 forbids and clients take: served, and nothing is written."""
    key = key_of(LEAF)
    parent = x509.load_pem_x509_certificate(LEAF.cert_chain_pems[0].bytes())
    start, end = parent.not_valid_before_utc, parent.not_valid_after_utc
    made = x509.CertificateBuilder(
        parent.issuer, parent.subject, key.public_key(), 7, start, end
    ).sign(key, hashes.SHA256())
    der = made.public_bytes(Encoding.DER).replace(b"\x02\x01\x07", b"\x02\x01" + serial, 1)
    pair.cert.write_text(ssl.DER_cert_to_PEM_cert(der))
    pair.context()
    assert validity_of(str(pair.cert)) == (start, end)


def test_workers_do_not_load_what_only_the_supervisor_asks() -> None:
    """A context is made without cryptography, which takes 8 MiB."""
    program = "import sys, zerocopy.supervise.worker; print('cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n"
