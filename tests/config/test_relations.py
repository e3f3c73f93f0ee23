"""Options that depend on each other: limits that must fit, and the ports of the listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.written import refusal, write
from tests.table import each
from zerocopy.config.load import Config, ListenerPorts, load
from zerocopy.config.options import PlainTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("small_answer_bytes_max = 2000000", "(2000000) must not exceed turn_bytes_max (1048576)"),
        ("head_bytes_max = 16383", "(16384) must not exceed head_bytes_max (16383)"),
        ("segments_max = 31", "columns_max (32) must not exceed segments_max (31)"),
    ],
)
def test_load_limits_that_contradict_are_refused(text: str, line: str) -> None:
    """A limit that another one makes pointless is refused, and both are named."""
    refused = refusal(f"[limits]\n{text}")
    assert refused.startswith(f"config.toml: [limits] {text.partition(' =')[0]}: ")
    assert refused.endswith(line)


def test_load_limits_at_their_relation_are_accepted() -> None:
    """The relations hold with equality."""
    write(
        "[limits]\nsmall_answer_bytes_max = 4096\nturn_bytes_max = 4096\n"
        "head_bytes_max = 16384\nsegments_max = 32\n"
    )
    assert load(environ={}).limits.turn_bytes_max == 4096


def test_load_relation_names_the_place_that_overrode_the_other() -> None:
    """The line points at the last place that took part."""
    line = refusal(
        "[limits]\nsmall_answer_bytes_max = 65536",
        environ={"ZEROCOPY_LIMITS_TURN_BYTES_MAX": "4096"},
    )
    assert line.startswith("ZEROCOPY_LIMITS_TURN_BYTES_MAX: small_answer_bytes_max (65536)")


@each(
    ("text", "environ", "flags", "listeners"),
    [
        ("", {}, {}, (None, 8443)),
        ("", {"USE_TLS": "false"}, {}, (8443, None)),
        ("[plain]\nport = 80", {}, {}, (80, 8443)),
        ("[tls]\nport = 443", {}, {}, (None, 443)),
        ("[tls]\nport = 443\n[server]\nport = 444", {}, {}, (None, 443)),
        ("[tls]\nport = 443", {"PORT": "444"}, {}, (None, 444)),
        ("[tls]\nport = 443", {}, {"server.port": 444}, (None, 444)),
        ("[tls]\nport = 443", {"PORT": "444"}, {"tls.port": 445}, (None, 445)),
        ("", {"PORT": "444", "ZEROCOPY_TLS_PORT": "445"}, {}, (None, 444)),
        ("[plain]\nport = 80\n[tls]\nport = 443", {}, {}, (80, 443)),
        ("[plain]\nport = 80\n[tls]\nport = 443", {"PORT": "444"}, {}, (80, 444)),
        ("[plain]\nport = 80\n[tls]\nport = 443", {"USE_TLS": "0"}, {}, (80, 443)),
        ("[plain]\nport = 80\n[tls]\nport = 443", {"USE_TLS": "0", "PORT": "81"}, {}, (81, 443)),
        ("[tls]\nport = 443", {"USE_TLS": "0"}, {}, (8443, 443)),
        ("[plain]\nport = 0", {"PORT": "0"}, {}, (0, 0)),
    ],
)
def test_listeners_resolve(
    text: str,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    listeners: tuple[int | None, int | None],
) -> None:
    """The main listener speaks what use_tls says; the other table opens a second one."""
    write(text)
    config = load(environ=environ, flags=flags)
    assert config.listeners() == listeners
    assert config.server.use_tls is (environ.get("USE_TLS", "1") == "1")


def test_listeners_of_a_config_made_directly() -> None:
    """A Config that was not loaded resolves as if all of it were a file's."""
    config = Config(plain=PlainTable(port=80))
    assert config.listeners() == ListenerPorts(plain_port=80, tls_port=8443)


@pytest.mark.parametrize(
    ("text", "environ", "label", "port"),
    [
        ("[plain]\nport = 8443", {}, "config.toml: [plain] port", 8443),
        ("[plain]\nport = 80\n[tls]\nport = 80", {}, "config.toml: [", 80),
        ("[plain]\nport = 80", {"PORT": "80"}, "PORT", 80),
        ("", {"METRICS_PORT": "8443"}, "METRICS_PORT", 8443),
    ],
)
def test_listeners_on_one_port_are_refused(
    text: str, environ: Mapping[str, str], label: str, port: int
) -> None:
    """Two listeners never share a port, which SO_REUSEPORT would let them do in silence."""
    line = refusal(text, environ=environ)
    assert line.startswith(label)
    assert line.endswith(f"two listeners on port {port}; each needs a port of its own")


@pytest.mark.parametrize("path", ["data", "data/rollups", "link/rollups", "./data/../data/x"])
def test_load_rollups_inside_the_data_root_are_refused(tmp_path: Path, path: str) -> None:
    """The root is never written to, by whatever name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    refused = refusal(f'[data]\npath = "data"\n[rollups]\npath = "{path}"')
    assert refused.startswith("config.toml: [rollups] path: [rollups] path (")
    assert "must lie outside of [data] path" in refused


def test_load_rollups_beside_the_data_root_are_accepted() -> None:
    """Also where one name begins with the other."""
    write('[data]\npath = "data"\n[rollups]\npath = "data-rollups"')
    assert load(environ={}).rollups.path == "data-rollups"


@each(
    ("text", "missing"),
    [
        ('jwks = "/k.json"', "issuer"),
        ('jwks = "/k.json"\nissuer = "https://i.example"', "audience"),
        ('jwks = "/k.json"\naudience = "zerocopy"', "issuer"),
    ],
)
def test_load_key_set_without_issuer_or_audience_is_refused(text: str, missing: str) -> None:
    """A token that was issued for another service would open this one."""
    line = refusal(f"[auth]\n{text}")
    assert line.startswith("config.toml: [auth] jwks: ")
    assert f"[auth] {missing}" in line


def test_load_auth_is_on_with_keys_or_a_key_set_alone() -> None:
    """Limits alone do not ask who asks."""
    write("[auth]\nrequests_per_s_max = 5\n")
    assert not load(environ={}).auth.is_on
    assert load(environ={"ZEROCOPY_AUTH_KEYS_PATH": "/k"}).auth.is_on
    write('[auth]\njwks = "/k"\nissuer = "i"\naudience = "a"\n')
    assert load(environ={}).auth.is_on


def test_load_a_store_of_limits_is_a_redis() -> None:
    """Its scheme says so; the line never holds the URL, which may hold a password."""
    line = refusal('[auth]\nlimits_url = "memcached://user:secret@host"')
    assert line == (
        "config.toml: [auth] limits_url: expected the URL of a Redis, "
        "redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster://"
    )
    write('[auth]\nlimits_url = "rediss://host:6380/1"')
    assert load(environ={}).auth.limits_url == "rediss://host:6380/1"
