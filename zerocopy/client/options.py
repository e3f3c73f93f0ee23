"""Where the server is and who asks: checked once, when a client is made.

Owns url and certificate authority; `keys` finds the key. It is kept here and in requests, never in
a message.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from zerocopy.client.errors import BadRequest
from zerocopy.client.keys import find_key

TIMEOUT_MAX_S = 1e6
"""Above it some system calls cannot wait."""

_PATH = re.compile(r"[!-~]*")
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
    key_hint: str
    """What a refusal should add, where no key was sent: why, and what to do."""
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


class _Place(NamedTuple):
    """What a url names."""

    is_tls: bool
    host: str
    port: int
    prefix: str

    @property
    def server(self) -> tuple[bool, str, int]:
        """Scheme, host and port."""
        return self[:3]


def read_options(
    url: str | None, key: str | None, ca: str | os.PathLike[str] | None, timeout_s: float
) -> Options:
    """The options of a client; the environment and netrc stand in for what is None.

    Raises:
        BadRequest: one of them is unusable; the detail says what would be right.
    """
    told = os.environ.get("ZEROCOPY_URL") or None
    if url is None:
        url = told
    if url is None:
        raise BadRequest(f"url: give the server's, {_RULE}, or set ZEROCOPY_URL")
    place = _read_url(url)
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise BadRequest(
            f"timeout: {timeout_s!r} must be seconds: above 0, at most {TIMEOUT_MAX_S:,.0f}"
        )
    is_told = None if told is None else _is_at(told, place)
    found = find_key(key, place.host, is_tls=place.is_tls, is_told=is_told)
    return Options(
        is_tls=place.is_tls,
        host=place.host,
        port=place.port,
        prefix=place.prefix,
        timeout_s=timeout_s,
        key=found.key,
        key_hint=found.hint,
        context=_context(ca) if place.is_tls else None,
    )


def _read_url(url: str) -> _Place:
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
    is_tls = parts.scheme == "https"
    return _Place(
        is_tls=is_tls,
        host=parts.hostname,
        port=port if port is not None else 443 if is_tls else 80,
        prefix=parts.path.rstrip("/"),
    )


def _is_at(url: str, place: _Place) -> bool:
    """Whether `url` names the same server; one that is none names no server."""
    try:
        return _read_url(url).server == place.server
    except BadRequest:
        return False


def _context(ca: str | os.PathLike[str] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise BadRequest(
            f"ca: {os.fspath(ca or '')!r} must be a PEM file of certificates"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context
