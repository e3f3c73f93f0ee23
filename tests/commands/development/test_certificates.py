"""Development certificates: what is in them, who can read them, and what a failure leaves."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerocopy.commands.development import certificates
from zerocopy.commands.development.certificates import (
    Certificates,
    ensure_certificates,
    make_certificates,
)
from zerocopy.core.errors import ConfigError

FILES = ["ca.crt", "ca.key", "localhost.crt", "localhost.key"]


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a directory, hidden ones too."""
    return {entry.name: entry.read_bytes() for entry in sorted(directory.iterdir())}


def cert_of(path: str) -> x509.Certificate:
    """The certificate of a PEM file."""
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def handshake(made: Certificates, name: str) -> None:
    """Connect in memory to a server with these certificates, as a strict client that trusts the CA.

    Raises:
        ssl.SSLCertVerificationError: the client refuses the certificate.
    """
    trusting = ssl.create_default_context(cafile=made.ca_cert)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made.cert, made.key)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname=name)
    server = serving.wrap_bio(up, down, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == "TLSv1.3"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates with two further names."""
    return make_certificates(str(tmp_path_factory.mktemp("certs")), ["Dev.Example", "10.1.2.3"])


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """0600 for keys; certificates are public and follow the umask."""
    before = os.umask(umask)
    try:
        made = make_certificates(str(tmp_path))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in made]
    public = 0o644 & ~umask
    assert modes == [public, 0o600, public, 0o600]


def test_keys_are_created_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open(2) itself is told 0600 and O_EXCL, so there is no moment at which others can read."""
    opened: list[tuple[str, int, int]] = []
    real = os.open

    def spy(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append((path, flags, mode))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", spy)
    make_certificates(str(tmp_path))
    keys = [(flags & os.O_EXCL, mode) for path, flags, mode in opened if path.endswith(".key")]
    assert keys == [(os.O_EXCL, 0o600)] * 2


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "dev.example", "10.1.2.3"])
def test_strict_client_that_trusts_the_ca_accepts_every_name(made: Certificates, name: str) -> None:
    """With the checks of RFC 5280 that Python 3.13 makes by default."""
    handshake(made, name)


def test_client_refuses_other_names(made: Certificates) -> None:
    """The certificate is for what was asked for, nothing else."""
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        handshake(made, "other.example")


def test_certificates_hold_what_browsers_want(made: Certificates) -> None:
    """A CA that can sign leaves only, and a leaf for servers only, of at most 397 days."""
    ca, leaf = cert_of(made.ca_cert), cert_of(made.cert)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(True, 0))
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert dt.timedelta(390) < lifetime <= dt.timedelta(397)
    age = dt.datetime.now(dt.UTC) - leaf.not_valid_before_utc
    assert dt.timedelta(minutes=59) < age < dt.timedelta(minutes=65)
    eku = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert b"-----BEGIN PRIVATE KEY-----" in Path(made.key).read_bytes()
    leaf.verify_directly_issued_by(ca)


def test_openssl_verifies_the_chain(made: Certificates) -> None:
    """`openssl verify`, strict, for a host name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    command += ["-verify_hostname", "localhost", "-CAfile", made.ca_cert, made.cert]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{made.cert}: OK\n"), done.stderr


def test_nothing_that_exists_is_replaced_without_force(tmp_path: Path) -> None:
    """Neither a leaf nor a CA, by any combination of the other options."""
    made = make_certificates(str(tmp_path))
    before = contents(tmp_path)
    for new_ca in (False, True):
        with pytest.raises(ConfigError, match=r"localhost\.crt exists; --force"):
            make_certificates(str(tmp_path), new_ca=new_ca)
    os.unlink(made.cert)
    with pytest.raises(ConfigError, match=r"localhost\.key exists; --force"):
        make_certificates(str(tmp_path))
    os.unlink(made.key)
    with pytest.raises(ConfigError, match="--force --new-ca replaces"):
        make_certificates(str(tmp_path), new_ca=True)
    assert contents(tmp_path) == {name: before[name] for name in FILES[:2]}


def test_ca_stays_trusted_until_a_new_one_is_asked_for(tmp_path: Path) -> None:
    """A new leaf is signed by the CA that is there; --new-ca replaces all four files."""
    made = make_certificates(str(tmp_path))
    first = contents(tmp_path)
    make_certificates(str(tmp_path), force=True)
    second = contents(tmp_path)
    assert [name for name in FILES if first[name] != second[name]] == FILES[2:]
    handshake(made, "localhost")
    make_certificates(str(tmp_path), force=True, new_ca=True)
    third = contents(tmp_path)
    assert [name for name in FILES if second[name] != third[name]] == FILES
    assert list(third) == FILES
    handshake(made, "localhost")


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("ca.key", None, "ca.key cannot be read: No such file or directory"),
        ("ca.key", b"junk", "ca.key is not a private key in PEM form"),
        ("ca.key", "localhost.key", "ca.key is not the key of"),
        ("ca.crt", b"junk", "ca.crt is not a certificate in PEM form"),
    ],
)
def test_ca_that_cannot_sign_is_named_and_left_alone(
    tmp_path: Path, file: str, content: bytes | str | None, sentence: str
) -> None:
    """Not even --force replaces a CA: who trusts it has to be asked, by --new-ca."""
    make_certificates(str(tmp_path))
    (tmp_path / file).unlink()
    if content is not None:
        data = content if isinstance(content, bytes) else (tmp_path / content).read_bytes()
        (tmp_path / file).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(ConfigError) as caught:
        make_certificates(str(tmp_path), force=True)
    assert sentence in caught.value.detail
    assert caught.value.detail.endswith("; --force --new-ca makes a new CA")
    assert contents(tmp_path) == before
    handshake(make_certificates(str(tmp_path), force=True, new_ca=True), "localhost")


def test_leaf_does_not_sign(tmp_path: Path) -> None:
    """A pair that is no CA is refused as one."""
    made = make_certificates(str(tmp_path))
    os.replace(made.cert, made.ca_cert)
    os.replace(made.key, made.ca_key)
    with pytest.raises(ConfigError, match=r"ca\.crt is not a CA; --force"):
        make_certificates(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["", "a b", "-a", "a..b", "ex\u00e4mple.de", "127.0.0.300", "*", "a.*", "a\n", "x" * 64]
)
def test_names_that_no_certificate_can_hold_are_refused(tmp_path: Path, name: str) -> None:
    """In one line, before anything is written."""
    with pytest.raises(ConfigError) as caught:
        make_certificates(str(tmp_path), [name])
    assert "is neither an IP address nor a host name" in caught.value.detail
    assert "\n" not in caught.value.detail
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("fails_at", range(1, 5))
def test_failure_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, *, existing: bool
) -> None:
    """Whichever of the four files cannot take its name: no new, half or temporary file is left."""
    directory = tmp_path / "certs"
    if existing:
        make_certificates(str(directory))
    before = contents(directory) if existing else None
    real = getattr(os, function := "replace" if existing else "link")
    calls = 0

    def failing(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, function, failing)
    with pytest.raises(ConfigError, match=r"cannot write .*: No space left on device"):
        make_certificates(str(directory), force=existing, new_ca=existing)
    assert (contents(directory) if directory.exists() else None) == before


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """fsync(2) is the last to tell of a full disk, and it is heard."""
    real = os.fsync
    calls = 0

    def failing(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ConfigError):
        make_certificates(str(tmp_path / "certs"))
    assert contents(tmp_path) == {}


def test_ensure_makes_what_is_missing_and_keeps_what_is_good(tmp_path: Path) -> None:
    """The first call makes certificates, the second returns them."""
    directory = tmp_path / "a" / "b"
    made = ensure_certificates(str(directory))
    before = contents(directory)
    assert ensure_certificates(str(directory)) == made
    assert contents(directory) == before


def test_ensure_replaces_what_ends_within_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leaf under the same CA; a CA that ends goes too."""
    monkeypatch.setattr(certificates, "LEAF_LIFETIME", dt.timedelta(hours=23))
    made = make_certificates(str(tmp_path))
    monkeypatch.undo()
    first = contents(tmp_path)
    ensure_certificates(str(tmp_path))
    second = contents(tmp_path)
    assert [name for name in FILES if first[name] != second[name]] == FILES[2:]
    monkeypatch.setattr(certificates, "CA_LIFETIME", dt.timedelta(hours=23))
    make_certificates(str(tmp_path), force=True, new_ca=True)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"ca\.crt ends on .*; --force --new-ca"):
        make_certificates(str(tmp_path), force=True)
    third = contents(tmp_path)
    ensure_certificates(str(tmp_path))
    assert [name for name in FILES if third[name] != contents(tmp_path)[name]] == FILES
    handshake(made, "localhost")


@pytest.mark.parametrize("with_ca", [False, True])
def test_ensure_never_replaces_a_certificate_of_somebody_else(
    tmp_path: Path, *, with_ca: bool
) -> None:
    """One that another CA signed: in use while it is valid, named once it is not."""
    if with_ca:
        make_certificates(str(tmp_path))
    ended = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    for end in (None, ended):
        leaf = trustme.CA().issue_cert("localhost", not_after=end)
        (tmp_path / "localhost.crt").write_bytes(leaf.cert_chain_pems[0].bytes())
        (tmp_path / "localhost.key").write_bytes(leaf.private_key_pem.bytes())
        before = contents(tmp_path)
        if end is None:
            ensure_certificates(str(tmp_path))
        else:
            with pytest.raises(ConfigError, match=r"ends on 2020-01-01, and .* did not sign it"):
                ensure_certificates(str(tmp_path))
        assert contents(tmp_path) == before
