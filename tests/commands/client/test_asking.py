"""`zerocopy.commands.client.asking`: what `get`, `bars` and `tail` share."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tests.client.liar import Liar, Say, honest, response

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.commands.client.conftest import Done

    Run = Callable[..., Done]


def test_a_key_among_the_arguments_is_warned_of(
    zerocopy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users see it; standard input and the environment are silent. A 401 is one line."""
    arguments = ("get", "X", "--type=MD", "--columns=time,price", "--format=columns")
    shown = "zerocopy: other users of this machine see the key of --key: use --key -"
    with Liar(honest) as liar:
        done = zerocopy(*arguments, "--key", "zc_k3y", url=liar.url)
        assert done.code == 0
        assert done.err.startswith(shown)
        assert done.err.count("\n") == 1
        monkeypatch.setattr("sys.stdin", io.StringIO("zc_k3y\nmore\n"))
        assert zerocopy(*arguments, "--key=-", url=liar.url)[::2] == (0, "")
        monkeypatch.setenv("ZEROCOPY_KEY", "zc_k3y")
        assert zerocopy(*arguments, url=liar.url)[::2] == (0, "")
        assert [head.fields["authorization"] for head in liar.heads] == ["Bearer zc_k3y"] * 3
    with Liar(Say(response(b'{"detail":"unknown"}', 401))) as liar:
        assert zerocopy(*arguments, url=liar.url) == (1, b"", "zerocopy: unknown\n")
        monkeypatch.delenv("ZEROCOPY_KEY")
        done = zerocopy(*arguments, url=liar.url)
        assert done.err.startswith("zerocopy: unknown; give a key as --key, in ZEROCOPY_KEY")
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert zerocopy(*arguments, "--key=-", url=liar.url).code == 2
