"""What generations of workers share to know who asks, and what of `[auth]` stops a start."""

from __future__ import annotations

import os
import threading
from copy import copy
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.issuing import jwk, key_set
from tests.ports import free_port
from tests.table import case
from zerocopy.config.load import Config, load
from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector
from zerocopy.supervise import access_share as module
from zerocopy.supervise.access_share import NO_SHARE, AccessShare, check_auth
from zerocopy.supervise.readiness import ReloadCheck

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUED = {"ZEROCOPY_AUTH_ISSUER": "https://issuer.example", "ZEROCOPY_AUTH_AUDIENCE": "zerocopy"}


def config_of(**auth: str) -> Config:
    """A configuration with these options of `[auth]`; an empty one is not set at all."""
    environ = {f"ZEROCOPY_AUTH_{name.upper()}": value for name, value in auth.items()}
    said = {"ZEROCOPY_CONFIG": os.devnull, **ISSUED, **environ}
    return load(environ={name: value for name, value in said.items() if value})


def url_of(path: str) -> str:
    """An URL of this machine where nobody answers."""
    return f"http://127.0.0.1:{free_port()}/{path}"


@pytest.fixture(name="share")
def fixture_share() -> Iterator[AccessShare]:
    """The share of one supervisor; no thread of it goes on, and logs, beside later tests."""
    share = AccessShare(Collector(make_counters(0), 0))
    yield share
    for fetcher in share._users:
        fetcher.stop()
    for thread in threading.enumerate():
        if thread.name == "key set":
            thread.join(30)
            assert not thread.is_alive()


def test_without_auth_nothing_is_shared(share: AccessShare) -> None:
    """No secret, no memory, no thread."""
    assert share.take(config_of(), None) is NO_SHARE
    assert NO_SHARE.ticket_secret == b""
    assert NO_SHARE.key_set_fds is None
    share.give_back(NO_SHARE)


def test_the_secret_of_a_start_is_that_of_all_its_generations(share: AccessShare) -> None:
    """A ticket outlives a reload; another start has another secret."""
    config = config_of(keys_path="keys.json")
    first, second = share.take(config, None), share.take(config, None)
    assert first.ticket_secret == second.ticket_secret
    assert len(first.ticket_secret) == 32
    other = AccessShare(Collector(make_counters(0), 0)).take(config, None)
    assert other.ticket_secret != first.ticket_secret
    assert share.take(config, b"x" * 32).ticket_secret == b"x" * 32


def test_a_generation_with_the_same_url_goes_on_with_what_was_fetched(share: AccessShare) -> None:
    """The last that gives it back stops it; another URL has a memory of its own."""
    url = url_of("certs")
    first, other = (
        share.take(config_of(jwks=url), None),
        share.take(config_of(jwks=url_of("b")), None),
    )
    second = share.take(config_of(jwks=url, jwks_refresh_s="7"), None)
    assert first.fetcher is not None
    assert first.fetcher is second.fetcher
    assert first.fetcher.refresh_s == 7.0
    assert first.key_set_fds != other.key_set_fds
    share.give_back(first)
    assert share.take(config_of(jwks=url), None).fetcher is second.fetcher
    for each in (second, second):
        share.give_back(each)
    third = share.take(config_of(jwks=url), None)
    assert third.fetcher is not second.fetcher
    for each in (third, other):
        share.give_back(each)


def test_a_key_set_in_a_file_needs_no_fetcher(share: AccessShare, tmp_path: Path) -> None:
    """Workers read it themselves."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(jwk("ES256", "one")))
    config = config_of(jwks=str(path))
    assert check_auth(config) is None
    assert share.take(config, None).fetcher is None


def test_what_cannot_be_served_stops_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the option or the file in it, and what to do."""
    right = tmp_path / "jwks.json"
    right.write_bytes(key_set(jwk("ES256", "one")))
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}", encoding="utf-8")
    open_secret = tmp_path / "secret"
    open_secret.write_bytes(b"x" * 32)
    open_secret.chmod(0o644)
    for auth, told in (
        ({"jwks": "http://issuer.example/certs"}, "[auth] jwks: the URL must begin with https://"),
        ({"jwks": "/none/jwks.json"}, "/none/jwks.json: the key set cannot be read"),
        ({"jwks": str(wrong)}, f"{wrong}: it is no JWK set"),
        ({"keys_path": "k", "ticket_secret_path": str(open_secret)}, f"{open_secret}: others may"),
    ):
        with case(auth), pytest.raises(ConfigError) as caught:
            check_auth(config_of(**auth))
        assert caught.value.detail.startswith(told), caught.value.detail
        assert "\n" not in caught.value.detail
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"\[auth\] jwks: .*pip install 'zerocopy\[auth\]'"):
        check_auth(config_of(jwks=str(right)))


def test_a_secret_is_read_where_auth_is_on_alone(tmp_path: Path) -> None:
    """Where nobody has to say who asks there are no tickets."""
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 40)
    path.chmod(0o600)
    assert check_auth(config_of(ticket_secret_path=str(path))) is None
    assert check_auth(config_of(ticket_secret_path=str(path), keys_path="k")) == b"s" * 40


def test_a_reload_reads_the_secret_and_is_refused_where_it_is_none(tmp_path: Path) -> None:
    """In the thread that reads the other files: a disk that is away holds nothing up."""
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 40)
    for mode, told in ((0o600, None), (0o644, "others may read")):
        path.chmod(mode)
        said = config_of(ticket_secret_path=str(path), jwks=url_of("certs"))
        plain = msgspec.structs.replace(said.server, use_tls=False)
        config = msgspec.structs.replace(said, server=plain)
        done = threading.Event()
        check = ReloadCheck(partial(copy, config), lambda _: None, config, done.set)
        assert done.wait(30)
        if told is None:
            prepared = check.result()
            assert prepared is not None
            assert prepared.ticket_secret == b"s" * 40
        else:
            with pytest.raises(ConfigError, match=told):
                check.result()
