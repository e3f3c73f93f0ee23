"""What the first bytes of a connection tell: ClientHellos of OpenSSL, whole, cut, and none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.transport.tls.hello import (
    LOOK_BYTES,
    hello_bytes,
    is_plain_http,
    offered_protocols,
)

LISTS = [
    (),
    ("h2",),
    ("http/1.1",),
    ("h2", "http/1.1"),
    ("http/1.1", "h2"),
    ("spdy/1", "x" * 255, "h3"),
    tuple(f"{number:03}" for number in range(200)),
]


def hello_of(alpn: tuple[str, ...], name: str | None = "localhost", **settings: object) -> bytes:
    """The first flight of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for key, value in settings.items():
        setattr(context, key, value)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("alpn", LISTS, ids=lambda alpn: f"{len(alpn)}")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", [None, "localhost", "a." * 100 + "b"])
def test_offer_of_a_client_is_read(
    alpn: tuple[str, ...], version: ssl.TLSVersion, name: str | None
) -> None:
    """All names in their order, whatever else the client says, and whatever comes behind it."""
    hello = hello_of(alpn, name, maximum_version=version)
    expected = tuple(protocol.encode() for protocol in alpn)
    assert offered_protocols(hello) == expected
    assert offered_protocols(hello + b"\x14\x03\x03\x00\x01\x01") == expected
    assert hello_bytes(hello) == len(hello)
    assert not is_plain_http(hello)


def in_records(hello: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes: RFC 8446 section 5.1 lets a client do so."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("size", [1, 3, 100, 16_384])
@pytest.mark.parametrize("alpn", LISTS, ids=lambda alpn: f"{len(alpn)}")
def test_offer_is_read_from_any_number_of_records(alpn: tuple[str, ...], size: int) -> None:
    """And `hello_bytes` asks for more until it is whole, then for nothing that comes behind it."""
    hello = in_records(hello_of(alpn), size)
    assert offered_protocols(hello) == tuple(protocol.encode() for protocol in alpn)
    assert offered_protocols(hello + b"\x14\x03\x03\x00\x01\x01") == offered_protocols(hello)
    looks, cut = 0, 1
    while cut < len(hello):
        looks, before = looks + 1, cut
        cut = hello_bytes(hello[:cut])
        assert before < cut <= len(hello), "more is asked for, and never more than will come"
    assert looks < 60, "however small the records are"
    assert hello_bytes(hello) == hello_bytes(hello + bytes(9)) == len(hello)


@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1"), ("h3",)], ids=lambda alpn: f"{len(alpn)}")
def test_offer_that_is_cut_off_is_never_another_one(alpn: tuple[str, ...]) -> None:
    """At every byte: nothing is raised or invented, and `hello_bytes` asks for more."""
    hello = hello_of(alpn)
    for cut in range(len(hello)):
        offered = offered_protocols(hello[:cut])
        assert offered == () or len(offered) <= len(alpn)
        assert hello_bytes(hello[:cut]) > cut
        assert hello_bytes(hello[:cut]) <= len(hello)


def test_record_that_no_client_may_send_is_left_to_openssl() -> None:
    """RFC 8446 section 5.1: no empty record, and none of another type amid a message."""
    first = hello_of(("h3",))[: 5 + 60]
    begun = first[:3] + (60).to_bytes(2, "big") + first[5:]
    for odd in (b"\x16\x03\x01\x00\x00", b"\x17\x03\x03\x00\x01x"):
        assert hello_bytes(begun + odd) <= len(begun + odd)
        assert offered_protocols(begun + odd) == ()
    assert hello_bytes(b"\x16\x03\x01\x00\x00" * 100) == 1


@given(data=st.binary(max_size=300))
def test_garbage_offers_nothing_and_raises_nothing(data: bytes) -> None:
    """Whatever comes; nor is more awaited than a record has."""
    assert all(data.find(name) >= 0 for name in offered_protocols(data))
    assert 1 <= hello_bytes(data) <= LOOK_BYTES
    is_plain_http(data)


@given(at=st.integers(0, 600), value=st.integers(0, 255))
def test_changed_byte_raises_nothing(at: int, value: int) -> None:
    """Lengths that lie lead nowhere."""
    hello = bytearray(HELLO)
    hello[at % len(hello)] = value
    for name in offered_protocols(bytes(hello)):
        assert name in bytes(hello) + bytes(1)


HELLO = hello_of(("h2", "http/1.1"))


@pytest.mark.parametrize(
    ("data", "is_http"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"options * HTTP/1.1\r\n", True),
        (b"PRI * HTTP/2.0\r\n", True),
        (b"G", True),
        (b"", False),
        (b"\x16\x03\x01", False),
        (b"\x80\x2e\x01", False),  # SSL 2.0
        (b"\r\nGET / HTTP/1.1", False),
        (bytes([0xC4]), False),  # a letter of Latin-1, not of ASCII
    ],
)
def test_request_line_begins_with_a_letter(data: bytes, *, is_http: bool) -> None:
    """No record of TLS does."""
    assert is_plain_http(data) == is_http
    assert hello_bytes(data) >= 1
