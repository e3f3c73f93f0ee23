"""What `zerocopy demo` prints to copy, where everybody may ask and where not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from zerocopy.commands.demo import _print_urls
from zerocopy.config.options import AuthTable

ORIGINS = ("http://127.0.0.1:1", "https://127.0.0.1:2")
FIELD = '-H "Authorization: Bearer $ZEROCOPY_KEY"'


def printed(auth: AuthTable) -> list[str]:
    """The lines."""
    out = io.StringIO()
    _print_urls(ORIGINS, "http://127.0.0.1:3/metrics", "ca.crt", 0, auth, Console(file=out))
    return out.getvalue().splitlines()


def test_nothing_is_said_of_keys_where_there_are_none() -> None:
    """The lines are those of a server that anybody may ask."""
    assert not any("key" in line.lower() or "-H" in line for line in printed(AuthTable()))


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        (AuthTable(keys_path="my keys.json"), "  zerocopy keys add NAME --file 'my keys.json'"),
        (AuthTable(jwks="set.json", issuer="i", audience="a"), "  export ZEROCOPY_KEY=TOKEN"),
    ],
    ids=["keys", "tokens"],
)
def test_lines_ask_with_a_key_where_one_is_needed(auth: AuthTable, told: str) -> None:
    """How to get one, and each curl sends it."""
    lines = printed(auth)
    assert told in lines
    commands = [line for line in lines if line.startswith("  curl")]
    assert len(commands) == 4
    assert all(FIELD in line for line in commands)
