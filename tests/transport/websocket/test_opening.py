"""What asks for a WebSocket, and what accepts it: RFC 6455 section 4.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.table import each
from zerocopy.core.errors import BadRequestError, RequestError, UpgradeRequiredError
from zerocopy.transport.websocket.opening import Handshake, asks_for_websocket

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Fields

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE, CONNECTION = (b"upgrade", b"websocket"), (b"connection", b"Upgrade")
VERSION, KEYED = (b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY)
RIGHT: Fields = ((b"host", b"t"), UPGRADE, CONNECTION, VERSION, KEYED)


def changed(name: bytes, *values: bytes) -> Fields:
    """The fields of a right handshake but with these values of `name`."""
    others = tuple(field for field in RIGHT if field[0] != name)
    return others + tuple((name, value) for value in values)


def upgrades(fields: Fields) -> list[bytes]:
    """The values of Upgrade."""
    return [value for name, value in fields if name == b"upgrade"]


def test_accept_is_that_of_the_rfc() -> None:
    """Section 1.3 computes it for its sample key. Nothing else is agreed on."""
    offers = (
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"sec-websocket-protocol", b"chat"),
    )
    handshake = Handshake(RIGHT + offers)
    assert handshake.fault is None
    assert handshake.accepting_fields() == (
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    )


@pytest.mark.parametrize(
    "fields",
    [
        changed(b"connection", b"keep-alive, Upgrade"),  # Firefox
        changed(b"connection", b"keep-alive", b"UPGRADE"),
        changed(b"upgrade", b"WebSocket"),
        changed(b"upgrade", b"h2c, websocket"),
        changed(b"upgrade", b"h2c", b"websocket"),
    ],
)
def test_tokens_are_members_of_lists_in_any_case(fields: Fields) -> None:
    """Section 4.2.1, steps 3 and 4, and RFC 9110 section 5.3."""
    assert asks_for_websocket(b"GET", upgrades(fields))
    assert Handshake(fields).fault is None


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (b"GET", changed(b"upgrade")),
        (b"GET", changed(b"upgrade", b"h2c")),
        (b"GET", changed(b"upgrade", b"websocket/13")),
        (b"GET", changed(b"upgrade", b"web, socket")),
        (b"POST", RIGHT),
        (b"HEAD", RIGHT),
        (b"get", RIGHT),
    ],
)
def test_what_does_not_ask_is_a_request_like_any_other(method: bytes, fields: Fields) -> None:
    """A GET whose Upgrade has the member websocket asks, nothing else."""
    assert not asks_for_websocket(method, upgrades(fields))


@each(
    ("fields", "fault", "detail"),
    [
        (changed(b"connection"), BadRequestError, "Connection: Upgrade"),
        (changed(b"connection", b"keep-alive"), BadRequestError, "Connection: Upgrade"),
        (changed(b"sec-websocket-version"), UpgradeRequiredError, "13"),
        (changed(b"sec-websocket-version", b"8"), UpgradeRequiredError, "13"),
        (changed(b"sec-websocket-version", b"13", b"13"), UpgradeRequiredError, "13"),
        (changed(b"sec-websocket-version", b"13, 8"), UpgradeRequiredError, "13"),
        (changed(b"sec-websocket-key"), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", b""), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", KEY, KEY), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", KEY[:-2]), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", b"YWJj"), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", b"?" + KEY[1:]), BadRequestError, "16 bytes"),
        (changed(b"sec-websocket-key", b"\xff" + KEY[1:]), BadRequestError, "16 bytes"),
    ],
)
def test_a_wrong_opening_is_told_what_it_lacks(
    fields: Fields, fault: type[RequestError], detail: str
) -> None:
    """Section 4.2.1, and section 4.4 for the version."""
    handshake = Handshake(fields)
    assert type(handshake.fault) is fault
    assert detail in str(handshake.fault)


def test_an_opening_has_no_content() -> None:
    """What follows its head is the WebSocket's."""
    assert isinstance(Handshake(RIGHT, has_content=True).fault, BadRequestError)
