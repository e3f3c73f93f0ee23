"""One record a read: OpenSSL gives control back after each, also after one without data.

Owns a switch of OpenSSL's that Python has no method for. CPython sets SSL_MODE_AUTO_RETRY
(SSL_CTX_set_mode(3)): one SSL_read(3) goes on through records that carry no data, as long as the
client sends more of them. A KeyUpdate (RFC 8446 section 4.6.3) has 27 bytes and takes 27 µs, so a
client that sends a megabyte a second held the event loop for as long as it liked. Without the
switch each is a call of the event loop's, and other connections have their turn in between.

The switch belongs to each `SSL`, which CPython keeps in the object behind an `ssl.SSLSocket`, in
the word before its context. Where that is not so, or where OpenSSL has no symbols (linked into
Python), nothing is changed; `is_available` tells.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_AUTO_RETRY = 0x4  # openssl/ssl.h: SSL_MODE_AUTO_RETRY
_GET_MODE, _CLEAR_MODE = 33, 78  # SSL_CTRL_MODE, SSL_CTRL_CLEAR_MODE
_WORD_BYTES = ctypes.sizeof(ctypes.c_void_p)


def _find() -> tuple[Callable[..., int], int] | None:
    """SSL_ctrl(3) of Python's own OpenSSL, and where an `_ssl._SSLSocket` keeps its `SSL`."""
    if sys.implementation.name != "cpython":
        return None
    try:
        control = ctypes.CDLL(_ssl.__file__).SSL_ctrl
    except (AttributeError, OSError):
        return None
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    control.restype = ctypes.c_long
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    probe: Any = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    inner = probe._sslobj  # noqa: SLF001 - as in `address_of`
    places = range(0, type(inner).__basicsize__, _WORD_BYTES)
    words = [ctypes.c_void_p.from_address(id(inner) + place).value for place in places]
    if id(context) not in words:
        return None
    place = places[words.index(id(context)) - 1]
    address = words[place // _WORD_BYTES]
    if not address or not control(address, _GET_MODE, 0, None) & _AUTO_RETRY:
        return None
    return control, place


_FOUND = _find()

is_available = _FOUND is not None
"""Whether `clear` does anything."""


def clear(sock: ssl.SSLSocket) -> None:
    """Have each read of `sock` end after one record, whatever it carries."""
    address = address_of(sock)
    if _FOUND is not None and address is not None:
        _FOUND[0](address, _CLEAR_MODE, _AUTO_RETRY, None)


def address_of(sock: ssl.SSLSocket) -> int | None:
    """Where OpenSSL's `SSL` of a socket is; None where that cannot be told."""
    inner: Any = sock._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - no method tells
    if _FOUND is None or inner is None:
        return None
    return ctypes.c_void_p.from_address(id(inner) + _FOUND[1]).value
