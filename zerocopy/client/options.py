"""Where the server is and who asks: checked once, when a client is made.

Owns url, key and certificate authority. A key is kept here and in requests, never in a message.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from zerocopy.client.errors import BadRequest

TIMEOUT_MAX_S = 1e6
"""Above it some system calls cannot wait."""

_PATH = re.compile(r"[!-~]*")
_KEY = re.compile(r"[!-~]+")
_RULE = "such as http://127.0.0.1:8080 or https://data.example.com"


@dataclass(frozen=True, slots=True)
class Options:
    """The server's origin, the path before /api, and what every request carries."""

    is_tls: bool
    host: str
    port: int
    prefix: str
    timeout_s: float
    key: str | None = field(repr=False)
    context: ssl.SSLContext | None = field(repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"

    @property
    def fields(self) -> dict[str, str]:
        """Header fields of every request."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}


def read_options(
    url: str | None, key: str | None, ca: str | os.PathLike[str] | None, timeout_s: float
) -> Options:
    """The options of a client; `ZEROCOPY_URL` and `ZEROCOPY_KEY` stand in for what is None.

    Raises:
        BadRequest: one of them is unusable; the detail says what would be right.
    """
    if url is None:
        url = os.environ.get("ZEROCOPY_URL") or None
    if url is None:
        raise BadRequest(f"url: give the server's, {_RULE}, or set ZEROCOPY_URL")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # what a connection looks up
    except ValueError:
        raise BadRequest(f"url: must be one with a host and a port, {_RULE}") from None
    if parts.username is not None or parts.password is not None:
        raise BadRequest("url: must hold no user and no password; give a key as key=")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise BadRequest(f"url: {url!r} must be http or https with a host, {_RULE}")
    if _PATH.fullmatch(parts.path) is None:
        raise BadRequest(f"url: the path of {url!r} must be percent-encoded")
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise BadRequest(
            f"timeout: {timeout_s!r} must be seconds: above 0, at most {TIMEOUT_MAX_S:,.0f}"
        )
    is_tls = parts.scheme == "https"
    return Options(
        is_tls=is_tls,
        host=parts.hostname,
        port=port if port is not None else 443 if is_tls else 80,
        prefix=parts.path.rstrip("/"),
        timeout_s=timeout_s,
        key=_checked_key(os.environ.get("ZEROCOPY_KEY") or None if key is None else key),
        context=_context(ca) if is_tls else None,
    )


def _checked_key(key: str | None) -> str | None:
    """http.client would show a key that it refuses."""
    if key is not None and _KEY.fullmatch(key) is None:
        raise BadRequest("key: must be printable ASCII without spaces")
    return key


def _context(ca: str | os.PathLike[str] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise BadRequest(
            f"ca: {os.fspath(ca or '')!r} must be a PEM file of certificates"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context
