"""Where a key comes from, and that it goes to the server it was given for and to no other."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.client.liar import Liar, Say, honest, response
from zerocopy.client import BadRequest, Client, Unauthorized
from zerocopy.client.keys import is_loopback
from zerocopy.client.options import read_options

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = "https://data.example.com", "http://data.example.com"
NETRC = """\
# passwords of other services are none of ours
machine ftp.example.com login ftp password of-ftp
machine Data.Example.com login zerocopy password "of-netrc"
machine 127.0.0.1 login zerocopy password of-loopback
default login zerocopy password of-anybody
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without anything, and an environment that names nothing of ours."""
    for name in ("ZEROCOPY_URL", "ZEROCOPY_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put_netrc(path: Path, text: str = NETRC, mode: int = 0o600) -> Path:
    """A file like netrc."""
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


class Case(NamedTuple):
    """Who gave what for which URL, the key that is sent, and what a 401 adds where none is."""

    url: str
    told: str = ""
    given: str | None = None
    environ: str = ""
    netrc: bool = False
    key: str | None = None
    hint: str = ""


CASES = [
    Case(HERE, given="mine", environ="E", netrc=True, key="mine"),
    Case(THERE, given="mine", key="mine"),
    Case(HERE, environ="E", netrc=True, key="E"),
    Case(HERE, told=f"{HERE}:443/below", environ="E", key="E"),
    Case(THERE, told=THERE, environ="E", key="E"),
    Case(HERE, told=f"{HERE}:8443", environ="E", hint="it is for the server of ZEROCOPY_URL"),
    Case(HERE, told=THERE, environ="E", hint="it is for the server of ZEROCOPY_URL"),
    Case(HERE, told="https://other.example", environ="E", hint="the server of ZEROCOPY_URL"),
    Case(HERE, told="none", environ="E", hint="it is for the server of ZEROCOPY_URL"),
    Case(HERE, told="https://other.example", environ="E", netrc=True, key="of-netrc"),
    Case(THERE, environ="E", hint="the key of ZEROCOPY_KEY was not sent, for others could read"),
    Case(THERE, netrc=True, hint=".netrc was not sent, for others could read it on the way"),
    Case("http://127.0.0.1:1", environ="E", key="E"),
    Case("http://localhost:1", environ="E", key="E"),
    Case("http://[::1]:1", environ="E", key="E"),
    Case(HERE, netrc=True, key="of-netrc"),
    Case("http://127.0.0.1:1", netrc=True, key="of-loopback"),
    Case("https://ftp.example.com", netrc=True, hint="give a key as key="),
    Case("https://elsewhere.example", netrc=True, hint="give a key as key="),
    Case("https://default", netrc=True, hint="give a key as key="),
    Case(HERE, hint="give a key as key=, in ZEROCOPY_KEY or in ~/.netrc"),
]


def test_a_key_goes_to_the_server_it_was_given_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of who gave what: scheme, host and port have to be those; else the hint says why."""
    for case in CASES:
        monkeypatch.setenv("ZEROCOPY_URL", case.told)
        monkeypatch.setenv("ZEROCOPY_KEY", case.environ)
        (home / ".netrc").unlink(missing_ok=True)
        if case.netrc:
            put_netrc(home / ".netrc")
        options = read_options(case.url, case.given, None, 30)
        assert options.key == case.key, case
        assert case.hint in options.key_hint, case
        assert (options.key is None) == bool(options.key_hint), case
        if case.key:
            assert options.fields == {"Authorization": f"Bearer {case.key}"}
            assert case.key not in repr(options)


def test_netrc_may_lie_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `$NETRC` says; a file that is not there, or no file, has no key."""
    monkeypatch.setenv("NETRC", str(put_netrc(home / "other")))
    assert read_options(HERE, None, None, 30).key == "of-netrc"
    os.mkfifo(home / "pipe")
    for path in (home / "none", home, home / "other" / "below", home / "pipe"):
        monkeypatch.setenv("NETRC", str(path))
        assert read_options(HERE, None, None, 30).key is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused_where_it_has_our_key(home: Path, mode: int) -> None:
    """With what to type; for another host it is none of our business."""
    path = put_netrc(home / ".netrc", mode=mode)
    with pytest.raises(BadRequest, match=rf"others may use it.*chmod 600 {path}") as caught:
        Client(HERE)
    assert "of-netrc" not in str(caught.value)
    assert read_options("https://ftp.example.com", None, None, 30).key is None


def test_a_malformed_netrc_is_told_without_its_words(home: Path) -> None:
    """The parser quotes the word that it stumbles over; one without our login is not read."""
    put_netrc(home / ".netrc", NETRC + "machine m login l password one s3cr3t\n")
    with pytest.raises(BadRequest, match=r"\.netrc: line \d+: not as netrc has it") as caught:
        Client(HERE)
    error: BaseException = caught.value
    assert "s3cr3t" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__
    put_netrc(home / ".netrc", "machine m login l password one two\n")
    assert read_options(HERE, None, None, 30).key is None


def test_a_key_of_the_environment_or_netrc_that_is_none_is_not_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http.client would show it."""
    monkeypatch.setenv("ZEROCOPY_KEY", "two w0rds")
    with pytest.raises(BadRequest, match=r"^key: ") as caught:
        Client(HERE)
    assert "w0rds" not in str(caught.value)
    monkeypatch.delenv("ZEROCOPY_KEY")
    put_netrc(home / ".netrc", 'machine Data.Example.com login zerocopy password "a w0rds"\n')
    with pytest.raises(BadRequest, match=r"^key: ") as caught:
        Client(HERE)
    assert "w0rds" not in str(caught.value)


def test_a_401_says_why_no_key_was_sent() -> None:
    """In get and live; with a key the server's words are enough."""
    problem = Say(response(b'{"detail":"say who asks"}', 401))
    with Liar(problem) as liar:
        for key, told in ((None, "say who asks; give a key as key="), ("k", "say who asks")):
            with Client(liar.url, key=key) as client:
                for ask in (client.symbols, lambda: client.live("X", "time", type="MD")):
                    with pytest.raises(Unauthorized) as caught:
                        ask()
                    assert caught.value.detail.startswith(told)
                    assert (caught.value.detail == told) == (key is not None)


def test_no_log_tells_the_key(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does http.client print it, though whoever looks for a fault has both told all."""
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)
    caplog.set_level(logging.DEBUG)
    with Liar(honest) as liar, Client(liar.url, key="s3cr3t") as client:
        client.data("X", "time", type="MD")
    with Liar(Say(response(b"", 401))) as liar, Client(liar.url, key="s3cr3t") as client:
        with pytest.raises(Unauthorized):
            client.live("X", "time", type="MD")
        assert liar.heads[0].fields["authorization"] == "Bearer s3cr3t"
    assert "> GET /api/live" in caplog.text
    assert "s3cr3t" not in caplog.text + "".join(capfd.readouterr())


def test_loopback_is_this_machine_and_no_name_like_it() -> None:
    """A name may be looked up anywhere."""
    for host in ("localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"):
        assert is_loopback(host), host
    for host in ("localhost.example", "127.0.0.1.example", "127.1", "10.0.0.1", "::2", "0.0.0.0"):
        assert not is_loopback(host), host
