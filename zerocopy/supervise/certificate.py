"""TLS of the server: a context from two PEM files, or from copies of them that cannot change.

Owns versions, ciphers and the sentence for every way the two files can be wrong. It must
never know sockets, HTTP, nor what is done with a warning.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import ssl
import warnings
from typing import Final, NamedTuple, NoReturn

from zerocopy.core.errors import ConfigError

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and AEAD; RFC 9113 section 9.2.2 forbids the rest to HTTP/2."""

EXPIRY_WARNING: Final = dt.timedelta(days=7)
"""How long before its end a certificate is worth a warning."""

_CERT_OPTION: Final = "[tls] cert_path"
_KEY_OPTION: Final = "[tls] key_path"
_PEM_CERTIFICATE: Final = re.compile(
    rb"^-----BEGIN CERTIFICATE-----\s.*?^-----END CERTIFICATE-----", re.DOTALL | re.MULTILINE
)
_PEM_KEY: Final = re.compile(rb"^-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----", re.MULTILINE)
_NO_MATCH: Final = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_DER_SEQUENCE: Final = 0x30


class Validity(NamedTuple):
    """From when until when a certificate may be used, both in UTC."""

    start: dt.datetime
    end: dt.datetime


class PemCopies:
    """Both files as they were when they were checked, in memory: the files may change or go.

    Raises:
        ConfigError: as `make_context`, of which none of the copies is left.
    """

    def __init__(self, cert_path: str, key_path: str) -> None:
        certificates, key = _read(_CERT_OPTION, cert_path), _read(_KEY_OPTION, key_path)
        with contextlib.ExitStack() as undo:
            copies = []
            for content in (certificates, key):
                copies.append(os.memfd_create("zerocopy-pem"))
                undo.callback(os.close, copies[-1])
                _write(copies[-1], content)
            self.fds = copies[0], copies[1]
            """Of the certificate and of the key."""
            make_context(cert_path, key_path, self.fds)
            undo.pop_all()
        self._is_open = True

    def close(self) -> None:
        """Close the copies."""
        if self._is_open:
            self._is_open = False
            for fd in self.fds:
                os.close(fd)


def make_context(
    cert_path: str, key_path: str, copies: tuple[int, int] | None = None
) -> ssl.SSLContext:
    """Build the context of a server: TLS 1.2 and 1.3. Never prompts.

    With `copies`, the descriptors of `PemCopies`, the paths are only what a refusal names.

    Raises:
        ConfigError: a file cannot be read or is not PEM, the key is encrypted or does not belong
            to the certificate, or OpenSSL refuses it; the detail names the option and the file.
    """
    files = (cert_path, key_path) if copies is None else (_path_of(copies[0]), _path_of(copies[1]))
    _check_certificates(cert_path, files[0])
    _check_key(key_path, files[1])
    context = _bare_context()

    def refuse_encrypted() -> NoReturn:
        _refuse(
            _KEY_OPTION,
            key_path,
            "is encrypted, and nobody is there to type its passphrase; "
            "`openssl pkey` writes one that is not",
        )

    try:
        context.load_cert_chain(*files, password=refuse_encrypted)
    except ssl.SSLError as error:
        if error.reason in _NO_MATCH:
            why = f"does not belong to {cert_path}, whose first certificate is the server's own"
            _refuse(_KEY_OPTION, key_path, why)
        if error.reason is not None and error.reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
            why = f"is too weak for OpenSSL ({error.reason})"
            _refuse(_CERT_OPTION, cert_path, why)
        _refuse(_KEY_OPTION, key_path, "holds a private key that OpenSSL cannot read")
    except OSError as error:  # changed since it was checked
        _refuse(_CERT_OPTION, cert_path, f"or {key_path} cannot be read: {error.strerror}")
    return context


def validity_of(cert_path: str, copy: int | None = None) -> Validity:
    """Return the validity of the first certificate of a PEM file (RFC 5280 section 4.1.2.5).

    Raises:
        ConfigError: the file cannot be read, or its first certificate cannot be understood.
    """
    # Workers make contexts and never ask this: 8 MiB and 40 ms that are the supervisor's alone.
    from cryptography import x509  # noqa: PLC0415

    pem = _check_certificates(cert_path, cert_path if copy is None else _path_of(copy))[0]
    try:
        with warnings.catch_warnings(action="ignore"):  # a serial number that no client minds
            certificate = x509.load_pem_x509_certificate(pem.encode("latin-1"))
        return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except ValueError:
        _refuse(_CERT_OPTION, cert_path, "has a validity that cannot be read")


def validity_warning(
    cert_path: str, now: dt.datetime | None = None, copy: int | None = None
) -> str | None:
    """Return one line about a certificate that clients refuse, or soon will; else None.

    Raises:
        ConfigError: as `validity_of`.
    """
    start, end = validity_of(cert_path, copy)
    now = now or dt.datetime.now(dt.UTC)
    if now < start:
        return f"{_CERT_OPTION}: {cert_path} is not valid before {start:%Y-%m-%d %H:%M:%S} UTC"
    if now > end:
        return f"{_CERT_OPTION}: {cert_path} expired on {end:%Y-%m-%d %H:%M:%S} UTC"
    if now > end - EXPIRY_WARNING:
        return f"{_CERT_OPTION}: {cert_path} expires on {end:%Y-%m-%d %H:%M:%S} UTC"
    return None


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # RFC 9113 section 9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Many clients say FIN without close_notify once they have asked, and are still answered.
    # HTTP tells where a request ends, so none that was cut off can pass for a whole one.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    # Every cipher left is a good one, so the client's order decides: it knows whether its processor
    # has AES instructions.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _check_certificates(path: str, file: str) -> list[str]:
    """Return the certificates of a file as PEM; all of them can be parsed."""
    content = _read(_CERT_OPTION, path, file)
    pems = [match.group().decode("latin-1") for match in _PEM_CERTIFICATE.finditer(content)]
    if not pems and _PEM_KEY.search(content):
        _refuse(_CERT_OPTION, path, "holds a private key and no certificate")
    if not pems:
        _refuse(_CERT_OPTION, path, f"holds no certificate in PEM form{_hint(content, 'x509')}")
    for position, pem in enumerate(pems, start=1):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
        except (ssl.SSLError, ValueError):
            _refuse(_CERT_OPTION, path, f"holds a broken certificate, number {position}")
    return pems


def _check_key(path: str, file: str) -> None:
    content = _read(_KEY_OPTION, path, file)
    if _PEM_KEY.search(content):
        return
    if _PEM_CERTIFICATE.search(content):
        _refuse(_KEY_OPTION, path, "holds a certificate and no private key")
    _refuse(_KEY_OPTION, path, f"holds no private key in PEM form{_hint(content, 'pkey')}")


def _hint(content: bytes, command: str) -> str:
    if content[:1] != bytes([_DER_SEQUENCE]):
        return ""
    return f"; it looks like DER, which `openssl {command} -inform der` makes PEM of"


def _write(fd: int, content: bytes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.write(content)


def _path_of(fd: int) -> str:
    """A path to one of our descriptors, because OpenSSL reads only paths.

    It is read from its start.

    Raises:
        ConfigError: /proc is not there.
    """
    path = f"/proc/self/fd/{fd}"
    if not os.path.exists(path):
        raise ConfigError("/proc is not mounted, and TLS reads its certificate by /proc/self/fd")
    return path


def _read(option: str, path: str, file: str | None = None) -> bytes:
    try:
        with open(file or path, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        _refuse(option, path, "does not exist; `zerocopy certs` makes a pair for development")
    except IsADirectoryError:
        _refuse(option, path, "is a directory, not a PEM file")
    except OSError as error:
        _refuse(option, path, f"cannot be read: {error.strerror}")
    except ValueError:
        _refuse(option, path, "is not a path")


def _refuse(option: str, path: str, why: str) -> NoReturn:
    """Keep it to one line, whatever the path holds; the cause's wording would repeat the path."""
    message = f"{option}: {path} {why}"
    raise ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in message)) from None
