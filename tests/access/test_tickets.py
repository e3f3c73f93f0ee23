"""Tickets: what they say, who can make one, and until when they open anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import case, each
from zerocopy.access.tickets import LIFE_S, Tickets, read_secret
from zerocopy.core.access import Grant, Scope
from zerocopy.core.errors import BadRequestError, ConfigError, UnauthorizedError

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_800_000_000.25
TICKETS = Tickets(b"s" * 32)
OF_KEY = Grant("desk", mark="k" * 32)
OF_TOKEN = Grant("token:x", Scope(symbols=("BTC-*",)), until_s=NOW_S + 600.5, mark="t" * 32)


def test_a_ticket_of_a_key_says_which_key() -> None:
    """And no scope: that is what the key may see when the ticket is used."""
    word, life_s = TICKETS.make(OF_KEY, NOW_S)
    assert life_s == LIFE_S == 60
    ticket = TICKETS.read(word, NOW_S)
    assert (ticket.name, ticket.mark, ticket.until_s) == ("desk", "k" * 32, None)
    assert ticket.expires_s == int(NOW_S) + 60


def test_a_ticket_of_a_token_says_what_the_token_proved() -> None:
    """Another server with the same secret has never seen the token."""
    ticket = Tickets(b"s" * 32).read(TICKETS.make(OF_TOKEN, NOW_S)[0], NOW_S)
    assert ticket.scope == OF_TOKEN.scope
    assert (ticket.name, ticket.mark, ticket.until_s) == ("token:x", "t" * 32, NOW_S + 600.5)


def test_a_ticket_opens_for_a_minute_and_not_beyond_its_token() -> None:
    """Both ends, to the second."""
    word, _ = TICKETS.make(OF_TOKEN, NOW_S)
    TICKETS.read(word, NOW_S + 59)
    short, life_s = TICKETS.make(Grant("token:x", until_s=NOW_S + 5, mark="t"), NOW_S)
    assert life_s == 5
    TICKETS.read(short, NOW_S + 4)
    for late, at_s in ((word, NOW_S + 60), (short, NOW_S + 5)):
        with pytest.raises(UnauthorizedError, match="has ended"):
            TICKETS.read(late, at_s)


def test_another_secret_makes_no_ticket_of_ours() -> None:
    """Nor does a part of a ticket, a changed one, or one with more."""
    word, _ = TICKETS.make(OF_KEY, NOW_S)
    others = [Tickets(b"s" * 33).make(OF_KEY, NOW_S)[0], Tickets(b"t" * 32).make(OF_KEY, NOW_S)[0]]
    said, mac = word.split(b".")
    others += [b"", b".", said, said + b".", b"." + mac, word + b"A", word + b"=", b"A" + word]
    others += [word + b"\n", said + b"." + mac[:-1], word.replace(b".", b"%2E"), b"x" * 10_000]
    others += [word[:at] + bytes([word[at] ^ 1]) + word[at + 1 :] for at in range(len(word))]
    for other in others:
        with case(other), pytest.raises(UnauthorizedError) as caught:
            TICKETS.read(other, NOW_S)
        assert caught.value.is_invalid


@given(st.binary(max_size=200))
def test_no_bytes_are_a_ticket(word: bytes) -> None:
    """Whatever a client sends."""
    with pytest.raises(UnauthorizedError):
        TICKETS.read(word, NOW_S)


def test_a_scope_that_no_url_holds_gets_no_ticket() -> None:
    """It says what to do instead."""
    wide = Scope(symbols=tuple(f"SYMBOL-{number:04}" for number in range(256)))
    with pytest.raises(BadRequestError, match="send the token itself"):
        TICKETS.make(Grant("token:x", wide, until_s=NOW_S + 600, mark="t" * 32), NOW_S)


# ---- the secret


def test_every_byte_of_the_file_is_the_secret(tmp_path: Path) -> None:
    """Also the last line end: servers that copy the file agree."""
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 32 + b"\n")
    path.chmod(0o600)
    assert read_secret(str(path)) == b"x" * 32 + b"\n"


@each(("content", "mode", "told"), [
    (b"x" * 31, 0o600, "must be 32 to 4,096 random bytes"),
    (b"", 0o600, "must be 32 to 4,096 random bytes"),
    (b"x" * 4_097, 0o600, "must be 32 to 4,096 random bytes"),
    (b"x" * 32, 0o604, "others may read the secret"),
    (b"x" * 32, 0o602, "others may read the secret"),
    (b"x" * 32, 0o660, "others may read the secret"),
])  # fmt: skip
def test_a_secret_that_is_none_is_refused(
    tmp_path: Path, content: bytes, mode: int, told: str
) -> None:
    """Too short to be one, or known to others."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"^{path}: .*{told}"):
        read_secret(str(path))


def test_a_group_reads_the_file_of_root_alone(tmp_path: Path) -> None:
    """Root's 0640 is how a service is given a secret that it cannot change."""
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 32)
    path.chmod(0o640)
    if os.geteuid() == 0:
        read_secret(str(path))
        os.chown(path, 65_534, -1)
    with pytest.raises(ConfigError, match="others may read"):
        read_secret(str(path))


def test_what_is_no_file_is_no_secret(tmp_path: Path) -> None:
    """Missing, or a directory."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=f"^{path}: the secret of tickets cannot be read"):
            read_secret(str(path))
