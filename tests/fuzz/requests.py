"""Bytes that are nearly HTTP/1.1: valid requests, and what becomes of them in hostile hands.

Everything comes from a `random.Random` that the caller seeds, so a number names a case for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

DATA = b"/api/data?symbol=BTC-USD&type=SMALL&start=0&end=86399&columns=time,price"
TARGETS = (
    DATA,
    DATA.replace(b"start=0", b"start=%30"),
    DATA.replace(b"columns=", b"columns=,"),
    DATA.replace(b"BTC-USD", b"..%2F..%2Fetc"),
    DATA.replace(b"86399", b"4294967296"),
    b"http://other" + DATA,
    b"/api/symbols",
    b"/api/symbols?exchange=coinbase",
    b"/healthz",
    b"/readyz",
    b"/openapi.json",
    b"/nowhere",
    b"*",
    b"/" + b"a" * 9_000,
    b"/api/data?" + b"&" * 200,
    b"/%00%ff\xff",
)
METHODS = (b"GET",) * 6 + (b"HEAD", b"OPTIONS", b"POST", b"PUT", b"CONNECT", b"TRACE", b"BREW")
VERSIONS = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11")
HOSTS = (b"Host: t",) * 8 + (b"Host:", b"Host: a b", b"Host: [::1]:80", b"Host: u@h", b"")
FIELDS = (
    b"Accept: */*",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 5, 5",
    b"Content-Length: -1",
    b"Content-Length: +5",
    b"Content-Length: 99999999999999999999999",
    b"Content-Length: 70000",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Range: bytes=0-99",
    b"Range: bytes=-1,5-,0-0",
    b"Range: bytes=" + b"0-0," * 50 + b"0-0",
    b"Range: bytes=99999999999999999999999-",
    b"If-Range: *",
    b'If-None-Match: "a", W/"b", *',
    b"If-Match: *",
    b'If-Match: "a',
    b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    b"If-Unmodified-Since: yesterday",
    b"Origin: https://charts.example",
    b"Access-Control-Request-Method: GET",
    b"Access-Control-Request-Headers: range\x01",
    b"X-Fold: a\r\n b",
    b"X-Nul: \x00",
    b"X-Latin: \xff\xfe",
    b"X-Long: " + b"x" * 9_000,
    b": no name",
    b"No colon",
    b"",
)
CONTENTS = (
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"-1\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n\r\n",
    b"x" * 70_000,
)
ENDS = (b"\r\n",) * 9 + (b"\n", b"\r", b"\r\r\n", b" \r\n")
BYTES = (b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b"\x80", b"%", b"?")


def request(random: Random, fields_max: int = 3) -> bytes:
    """One request, most often a valid one."""
    end = b"\r\n" if random.random() < 0.9 else random.choice(ENDS)
    fields = random.choices(FIELDS, k=random.randint(0, fields_max))
    if random.random() < 0.02:
        fields += [b"X-Many: 1"] * 120
    lines = [
        b" ".join((random.choice(METHODS), random.choice(TARGETS), random.choice(VERSIONS))),
        random.choice(HOSTS),
        *fields,
    ]
    return end.join([line for line in lines if line]) + end + end + random.choice(CONTENTS[:-1])


def valid(random: Random) -> bytes:
    """One request that nobody can object to."""
    return b"%s %s HTTP/1.1\r\nHost: t\r\n\r\n" % (
        random.choice((b"GET", b"OPTIONS")),
        random.choice((DATA, b"/healthz", b"/api/symbols", b"/openapi.json")),
    )


def _flip(random: Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _insert(random: Random, raw: bytes) -> bytes:
    at = random.randrange(len(raw))
    return raw[:at] + random.choice(BYTES) * random.choice((1, 1, 2, 100)) + raw[at:]


def _remove(random: Random, raw: bytes) -> bytes:
    at = random.randrange(len(raw))
    return raw[:at] + raw[at + random.randint(1, 20) :]


def _repeat(random: Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    at = random.randrange(len(lines))
    return b"\r\n".join(lines[:at] + lines[at : at + 1] * random.choice((2, 3, 200)) + lines[at:])


def _cut(random: Random, raw: bytes) -> bytes:
    return raw[: random.randrange(len(raw))]


def _crowd(random: Random, raw: bytes) -> bytes:
    return valid(random) * random.randint(1, 40) + raw + valid(random)


def _swell(random: Random, raw: bytes) -> bytes:
    at = random.randrange(len(raw))
    return raw[:at] + random.randbytes(1) * random.choice((9_000, 40_000, 100_000)) + raw[at:]


def _content(random: Random, raw: bytes) -> bytes:
    return raw + random.choice(CONTENTS)


def _noise(random: Random, raw: bytes) -> bytes:
    return raw + random.randbytes(random.randint(1, 300))


MUTATIONS: Sequence[Callable[[Random, bytes], bytes]] = (
    *(_flip, _flip, _insert, _insert, _remove, _remove, _repeat, _cut, _cut),
    *(_crowd, _swell, _content, _noise),
)


def mutated(random: Random) -> bytes:
    """All that one connection sends: some requests, most of them damaged."""
    raw = b"".join(request(random) for _ in range(random.choice((1, 1, 1, 2, 5))))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        raw = random.choice(MUTATIONS)(random, raw or b"\r\n")
    return raw
