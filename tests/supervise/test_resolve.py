"""Resolving: names that are known, that are none, and a resolver that does not answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.client import poll
from zerocopy.config.load import Config, load
from zerocopy.core.errors import ConfigError
from zerocopy.supervise.listeners import open_listeners, resolve_host
from zerocopy.supervise.readiness import ReloadCheck
from zerocopy.supervise.resolve import Address, cause_of, on_one_line, resolve, resolve_within

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRON = {"ZEROCOPY_CONFIG": os.devnull, "USE_TLS": "false", "PORT": "0", "HOST": "127.0.0.1"}


def config_of(**environ: str) -> Config:
    """A configuration with a plain listener on any free port."""
    return load(environ=ENVIRON | environ)


class StuckResolver:
    """Answers nothing until it is released, and notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, *_: Any, **__: Any) -> Any:
        """Take the place of getaddrinfo(3)."""
        self.asked.append(host)
        self.released.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckResolver]:
    """Instead of the resolver of this machine."""
    resolver = StuckResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()
    for thread in threading.enumerate():
        if thread.name in {"resolver", "reload"}:
            thread.join(10)


def test_address_is_the_same_on_any_port() -> None:
    """Of both families, with all that belongs to it."""
    assert resolve("127.0.0.1") == Address(socket.AF_INET, ("127.0.0.1", 0))
    assert resolve_within("127.0.0.1", 10).at(80) == ("127.0.0.1", 80)
    assert Address(socket.AF_INET6, ("fe80::1", 0, 0, 3)).at(80) == ("fe80::1", 80, 0, 3)


def test_resolver_that_does_not_answer_is_waited_for_until_the_deadline(
    stuck: StuckResolver,
) -> None:
    """Then its thread is left behind, and the cause is told in words."""
    with pytest.raises(TimeoutError) as caught:
        resolve_within("stuck.invalid", 0.05)
    assert cause_of(caught.value) == "the name was not resolved within 0.05 s"
    assert stuck.asked == ["stuck.invalid"]


def test_fault_of_a_name_is_told_by_the_thread_that_found_it() -> None:
    """No such name, and none at all: as if it had been asked for here."""
    with pytest.raises(socket.gaierror):
        resolve_within("no-such.invalid", 30)
    with pytest.raises(ValueError, match="label"):
        resolve_within("a..b", 30)
    assert on_one_line("a\nb") == "a\\nb"


def test_nobody_is_asked_for_what_is_bound_already(stuck: StuckResolver) -> None:
    """A reload that leaves the addresses alone works while the resolver does not."""
    stuck.released.set()
    address = Address(socket.AF_INET, ("127.0.0.1", 0))
    config = config_of(HOST="name.invalid")
    before = open_listeners(config, 1, {}, host=address)
    assert resolve_host(config, {}, before) is None
    after = open_listeners(config, 3, {}, before)
    assert {sock.getsockname() for sock in after.groups["plain"].sockets} == {
        before.groups["plain"].address
    }
    assert stuck.asked == []
    after.close()
    with socket.create_server(("127.0.0.1", 0)) as passed:
        assert resolve_host(config, {"plain": [passed]}) is None
    assert stuck.asked == []
    with pytest.raises(ConfigError, match=r"cannot listen on other\.invalid:0: Temporary failure"):
        resolve_host(config_of(HOST="other.invalid"), {}, before)


def test_preparation_of_a_reload_names_the_host_it_waited_for(stuck: StuckResolver) -> None:
    """Whoever asks how it stands gets an answer at once, and after the deadline a reason."""
    current = config_of(ZEROCOPY_SERVER_START_DEADLINE_S="600")
    changed = config_of(HOST="stuck.invalid")
    woken = threading.Event()
    preparation = ReloadCheck(
        lambda: changed, lambda config: resolve_host(config, {}), current, woken.set
    )
    assert preparation.result() is None
    poll(lambda: bool(stuck.asked), "the question")
    preparation.deadline_s = time.monotonic()
    with pytest.raises(ConfigError, match=r"stuck\.invalid was not resolved within 600 s"):
        preparation.result()
    stuck.released.set()
    for thread in threading.enumerate():
        if thread.name == "reload":
            thread.join(10)
    assert not woken.is_set(), "nobody waits for it any longer"
