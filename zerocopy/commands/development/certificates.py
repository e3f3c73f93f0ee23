"""Certificates for development: a CA of one's own, and a certificate for localhost signed by it.

Owns what is in them, and that no private key is ever readable by others or half written. It must
never know the server that uses them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""What every certificate is for, whatever further names are asked for."""

CA_LIFETIME: Final = dt.timedelta(days=3_650)
LEAF_LIFETIME: Final = dt.timedelta(days=396)
"""With the backdating below 397 days; browsers refuse more than 398."""

CLOCK_SKEW: Final = dt.timedelta(hours=1)
"""How far the start is backdated, for clients whose clock is slow."""

RENEWAL: Final = dt.timedelta(days=1)
"""`ensure_certificates` replaces what expires sooner."""

KEY_USAGES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
"""Every bit of RFC 5280 section 4.2.1.3."""

_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*"
)


class Certificates(NamedTuple):
    """The paths of the four PEM files."""

    ca_cert: str
    ca_key: str
    cert: str
    key: str


class _Ca(NamedTuple):
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    directory: str, names: Sequence[str] = (), *, force: bool = False, new_ca: bool = False
) -> Certificates:
    """Make a certificate for localhost and `names`, and its CA unless there is one.

    `force` replaces a certificate that is there; the CA stays, so that who trusts it goes on to,
    unless `new_ca` too. All files are there afterwards, or what was there before.

    Raises:
        ConfigError: a file exists, the CA there cannot sign, a name is wrong, or the disk refuses.
    """
    paths = _paths(directory)
    wanted = _subject_names((*LOCAL_NAMES, *names))
    for path in () if force else (paths.cert, paths.key):
        if os.path.lexists(path):
            raise ConfigError(f"{path} exists; --force replaces it")
    has_ca = os.path.lexists(paths.ca_cert) or os.path.lexists(paths.ca_key)
    if has_ca and new_ca and not force:
        raise ConfigError(f"{directory} holds a CA; --force --new-ca replaces it")
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    files: dict[str, bytes] = {}
    if has_ca and not new_ca:
        ca = _load_ca(paths, now)
    else:
        ca = _make_ca(now)
        files |= {paths.ca_key: _key_pem(ca.key), paths.ca_cert: _cert_pem(ca.cert)}
    key = ec.generate_private_key(ec.SECP256R1())
    # The leaf alone: clients have the CA, and RFC 8446 section 4.4.2 lets a server leave it out.
    files |= {paths.key: _key_pem(key), paths.cert: _cert_pem(_make_leaf(ca, key, wanted, now))}
    made_directory = not os.path.isdir(directory)
    try:
        os.makedirs(directory, exist_ok=True)
        _publish(files, replace=force)
    except OSError as error:
        if made_directory:
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        raise ConfigError(f"cannot write certificates to {directory}: {error.strerror}") from None
    return paths


def ensure_certificates(directory: str) -> Certificates:
    """Make certificates if there are none, or if those made before end within a day.

    A certificate that the CA in `directory` did not sign is somebody's own: it is never replaced,
    and there may be no CA.

    Raises:
        ConfigError: as `make_certificates`, or such a certificate ends.
    """
    paths = _paths(directory)
    if not (os.path.lexists(paths.cert) and os.path.lexists(paths.key)):
        return make_certificates(directory)
    soon = dt.datetime.now(dt.UTC) + RENEWAL
    leaf = _load_cert(paths.cert)
    if leaf.not_valid_after_utc > soon:
        return paths
    try:
        ca = _load_cert(paths.ca_cert)
        leaf.verify_directly_issued_by(ca)
    except (ConfigError, ValueError, TypeError, InvalidSignature):
        raise ConfigError(
            f"{paths.cert} ends on {leaf.not_valid_after_utc:%Y-%m-%d}, and {paths.ca_cert} "
            "did not sign it; `zerocopy certs --force` replaces it"
        ) from None
    return make_certificates(directory, force=True, new_ca=ca.not_valid_after_utc <= soon)


def _paths(directory: str) -> Certificates:
    names = ("ca.crt", "ca.key", "localhost.crt", "localhost.key")
    return Certificates(*(os.path.join(directory, name) for name in names))


def _subject_names(names: Iterable[str]) -> list[x509.GeneralName]:
    return list(dict.fromkeys(_subject_name(name.lower()) for name in names))


def _subject_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    # A last label of digits alone is a mistyped address: no top-level domain is (RFC 3696).
    if _DNS_NAME.fullmatch(name) is None or name.rpartition(".")[2].isdigit():
        raise ConfigError(f"{name!r} is neither an IP address nor a host name in ASCII")
    return x509.DNSName(name)


def _make_ca(now: dt.datetime) -> _Ca:
    key = ec.generate_private_key(ec.SECP256R1())
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The name tells one development CA from another in a list of trusted ones.
    name = _name(f"zerocopy development CA {key_id.digest[:4].hex()}")
    builder = _builder(name, name, key, now, now + CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
    return _Ca(builder.sign(key, hashes.SHA256()), key)


def _make_leaf(
    ca: _Ca, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: dt.datetime
) -> x509.Certificate:
    end = min(now + LEAF_LIFETIME, ca.cert.not_valid_after_utc)
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = _builder(_name("localhost"), ca.cert.subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_key_usage("digital_signature"), critical=True)
    builder = builder.add_extension(server_auth, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(authority, critical=False)
    return builder.sign(ca.key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in KEY_USAGES})


def _cert_pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_ca(paths: Certificates, now: dt.datetime) -> _Ca:
    """Load the CA that is there, if it can sign."""
    advice = "--force --new-ca makes a new CA"
    cert = _load_cert(paths.ca_cert, advice)
    try:
        key = serialization.load_pem_private_key(_read(paths.ca_key, advice), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it wants a passphrase
        raise ConfigError(f"{paths.ca_key} is not a private key in PEM form; {advice}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise ConfigError(f"{paths.ca_key} is not the key of {paths.ca_cert}; {advice}")
    try:
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        can_sign = constraints.ca
    except (x509.ExtensionNotFound, ValueError):
        can_sign = False
    if not can_sign:
        raise ConfigError(f"{paths.ca_cert} is not a CA; {advice}")
    if cert.not_valid_after_utc <= now + RENEWAL:
        raise ConfigError(f"{paths.ca_cert} ends on {cert.not_valid_after_utc:%Y-%m-%d}; {advice}")
    return _Ca(cert, key)


def _load_cert(path: str, advice: str = "`zerocopy certs --force` replaces it") -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path, advice))
    except ValueError:
        raise ConfigError(f"{path} is not a certificate in PEM form; {advice}") from None


def _read(path: str, advice: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; {advice}") from None


def _publish(files: dict[str, bytes], *, replace: bool) -> None:
    """Write all files or none: under other names first, under their own once all are on disk.

    Raises:
        OSError: FileExistsError among others; every file is what it was before.
    """
    token = secrets.token_hex(4)
    written: dict[str, str] = {}
    kept: dict[str, str] = {}
    named: list[str] = []
    try:
        for path, content in files.items():
            written[path] = _beside(path, f".{token}.")
            _write(written[path], content, secret=path.endswith(".key"))
        for path, temporary in written.items():
            if replace and os.path.lexists(path):
                os.link(path, _beside(path, f".{token}.old."), follow_symlinks=False)
                kept[path] = _beside(path, f".{token}.old.")
                os.replace(temporary, path)
            else:
                os.link(temporary, path)  # unlike rename(2) it never replaces
            named.append(path)
        _sync_directory(os.path.dirname(next(iter(files))) or ".")
    except BaseException:
        for path in named:
            os.replace(kept.pop(path), path) if path in kept else os.unlink(path)
        raise
    finally:
        for temporary in (*written.values(), *kept.values()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _beside(path: str, prefix: str) -> str:
    """Name a file next to `path` whose ending .gitignore knows."""
    directory, name = os.path.split(path)
    return os.path.join(directory, prefix + name)


def _write(path: str, content: bytes, *, secret: bool) -> None:
    mode = 0o600 if secret else 0o644
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        if secret:
            os.fchmod(fd, mode)  # a umask can only take away, even from the owner
        file.write(content)
        file.flush()
        os.fsync(fd)


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
