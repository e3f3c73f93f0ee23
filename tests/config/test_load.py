"""The configuration: what overrides what, what is refused and how it is said."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.config.written import refusal, write
from tests.table import each
from zerocopy.config import load as config_module
from zerocopy.config.load import OPTIONS, VARIABLES, Config, Layer, ListenerPorts, load
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TABLES = [
    table for table in Config.__struct_fields__ if table not in ("profile", "path", "origins")
]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty directory, with no file in /etc."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_module, "SEARCH_PATHS", ("config.toml", "etc.toml"))
    return tmp_path


def value(config: Config, key: str) -> Any:
    """Read an option by its dotted key."""
    table, _, name = key.partition(".")
    return getattr(getattr(config, table), name)


# What overrides what.


def test_load_nothing_gives_defaults_of_development() -> None:
    """Without file, environment and flags every option has its default."""
    config = load(environ={})
    assert (config.profile, config.path) == ("development", None)
    assert config.listeners() == ListenerPorts(plain_port=None, tls_port=8443)
    for key, option in OPTIONS.items():
        assert value(config, key) == option.defaults["development"]
        assert config.origins[key].layer is Layer.DEFAULT
    assert [getattr(config, table) for table in TABLES] == [
        getattr(Config(), table) for table in TABLES
    ]


def test_load_production_without_file_has_defaults_of_its_own() -> None:
    """The profile alone opens the network and starts a worker for each core."""
    config = load(environ={"ZEROCOPY_PROFILE": "production"})
    assert config.profile == "production"
    assert (config.server.host, config.server.workers) == ("0.0.0.0", 0)
    development = load(environ={})
    assert (development.server.host, development.server.workers) == ("127.0.0.1", 1)


def test_load_idle_timeout_default_outlasts_cloudflared() -> None:
    """An origin connection of cloudflared idles for 90 s; the default is above that."""
    assert load(environ={}).timeouts.idle_s > 90


def test_load_file_environment_flags_override_in_that_order() -> None:
    """A flag wins over the environment, the environment over the file."""
    write("[server]\nport = 1111\nhost = '10.0.0.1'\nbacklog = 11\n")
    config = load(
        environ={"PORT": "2222", "HOST": "10.0.0.2"}, flags={"server.port": 3333, "data.path": None}
    )
    assert (config.server.port, config.server.host, config.server.backlog) == (3333, "10.0.0.2", 11)
    assert config.origins["server.port"] == (Layer.FLAG, "flag server.port")
    assert config.origins["server.host"] == (Layer.ENVIRONMENT, "HOST")
    assert config.origins["server.backlog"] == (Layer.FILE, "config.toml: [server] backlog")
    assert config.origins["data.path"].layer is Layer.DEFAULT


def test_load_profile_table_overrides_common_table_whatever_their_order() -> None:
    """[production.server] wins in production only, and key by key."""
    write(
        "[production.server]\nport = 2\n[production.columns]\nid = 'i8'\n"
        "[server]\nport = 1\nbacklog = 7\n[columns]\nid = 'u8'\nlot = 'u2'\n"
    )
    production = load(environ={"ZEROCOPY_PROFILE": "production"})
    assert (production.server.port, production.server.backlog) == (2, 7)
    assert production.columns == {"id": "i8", "lot": "u2"}
    assert production.origins["server.port"].label == "config.toml: [production.server] port"
    development = load(environ={})
    assert development.server.port == 1
    assert development.columns == {"id": "u8", "lot": "u2"}


def test_load_common_file_value_overrides_default_of_production() -> None:
    """A host written for all profiles is not replaced by the default of one."""
    write("[server]\nhost = '10.0.0.1'\n")
    assert load(environ={"ZEROCOPY_PROFILE": "production"}).server.host == "10.0.0.1"


def test_load_search_order() -> None:
    """--config, then ZEROCOPY_CONFIG, then ./config.toml, then /etc, then the defaults."""
    for port, name in enumerate(("etc.toml", "config.toml", "env.toml", "flag.toml"), start=1):
        write(f"[server]\nport = {port}\n", name)
    environ = {"ZEROCOPY_CONFIG": "env.toml"}
    config = load("flag.toml", environ=environ)
    assert (config.server.port, config.path) == (4, "flag.toml")
    assert load(environ=environ).server.port == 3
    assert load(environ={"ZEROCOPY_CONFIG": " "}).server.port == 2
    os.unlink("config.toml")
    config = load(environ={})
    assert (config.server.port, config.path) == (1, "etc.toml")


def test_search_paths_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places searched are the working directory and /etc/zerocopy."""
    monkeypatch.undo()
    assert config_module.SEARCH_PATHS == ("config.toml", "/etc/zerocopy/config.toml")


def test_load_named_file_missing_or_unreadable_is_refused(tmp_path: Path) -> None:
    """A file that was asked for is never skipped in silence."""
    with pytest.raises(ConfigError, match=r"^no\.toml: cannot be read: No such file or directory$"):
        load("no.toml", environ={})
    with pytest.raises(ConfigError, match=r"^no\.toml: cannot be read"):
        load(environ={"ZEROCOPY_CONFIG": "no.toml"})
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load(str(tmp_path), environ={})
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match=r"^latin\.toml: cannot be read: 'utf-8' codec"):
        load("latin.toml", environ={})


# What is refused, and how it is said.


@each(
    ("text", "line"),
    [
        (
            "[limits]\nconections_max = 1",
            "unknown key [limits] conections_max; did you mean connections_max?",
        ),
        (
            "[production.server]\nhots = 'a'",
            "unknown key [production.server] hots; did you mean host?",
        ),
        ("[server]\nidle_s = 5.0", "unknown key [server] idle_s; did you mean [timeouts] idle_s?"),
        ("port = 1", "unknown key port; did you mean [server] port?"),
        ("[limit]\ndays_max = 1", "unknown table limit; did you mean [limits]?"),
        ("[prodution.server]", "unknown table prodution; did you mean [production]?"),
        ("server = 1", "[server]: expected a table, got int"),
        ("production = 1", "[production]: expected a table, got int"),
        ("[server]\nport = '8080'", "[server] port: expected int, got str"),
        ("[server]\nport = 8080.0", "[server] port: expected int, got float"),
        ("[server]\nport = true", "[server] port: expected int, got bool"),
        ("[tls]\nport = '1'", "[tls] port: expected int, got str"),
        ("[server]\nuse_tls = 1", "[server] use_tls: expected bool, got int"),
        ("[server]\nhost = 1", "[server] host: expected str, got int"),
        ("[server]\nport = 65536", "[server] port: expected int <= 65535, got 65536"),
        ("[server]\nport = -1", "[server] port: expected int >= 0, got -1"),
        ("[timeouts]\nidle_s = 0", "[timeouts] idle_s: expected float > 0.0, got 0"),
        ("[timeouts]\nidle_s = nan", "[timeouts] idle_s: expected float > 0.0, got nan"),
        ("[data]\nsettle_s = inf", "[data] settle_s: expected float <= 31536000.0, got inf"),
        ("[data]\npath = ''", "[data] path: expected str of length >= 1, got ''"),
        ("[log]\nformat = 'xml'", "[log] format: expected one of auto, json, console, got 'xml'"),
        ('[server]\n"a\\nb" = 1', "unknown key [server] a\\nb; did you mean page?"),
    ],
)
def test_load_file_wrong_is_refused_with_place_and_remedy(text: str, line: str) -> None:
    """A key, table, type or value that is wrong is named with its file and what would be right."""
    assert refusal(text) == f"config.toml: {line}"


def test_load_profile_not_chosen_is_checked_too() -> None:
    """A slip in [production] shows in development already."""
    assert "unknown key [production.limits] x" in refusal("[production.limits]\nx = 1")


def test_load_int_for_seconds_is_accepted() -> None:
    """Whole seconds need no decimal point."""
    write("[timeouts]\nidle_s = 95\n")
    assert load(environ={}).timeouts.idle_s == 95.0


@pytest.mark.parametrize(
    ("text", "end"),
    [("[server]\nport 1\n", "(at line 2, column 6)"), ("[server]\nport", "(at line 2, the end)")],
)
def test_load_syntax_error_names_file_and_line(text: str, end: str) -> None:
    """A file that is not TOML is refused with the line, at its very end too."""
    line = refusal(text)
    assert line.startswith("config.toml: ")
    assert line.endswith(end)


def test_load_profile_unknown_is_refused() -> None:
    """A profile that does not exist is never taken for the default."""
    assert refusal(environ={"ZEROCOPY_PROFILE": "prod"}) == (
        "ZEROCOPY_PROFILE: unknown profile prod; did you mean production?"
    )


# The environment and the flags.


@each(
    ("variable", "text", "key", "expected"),
    [
        ("USE_TLS", "false", "server.use_tls", False),
        ("USE_TLS", "No", "server.use_tls", False),
        ("USE_TLS", "off", "server.use_tls", False),
        ("USE_TLS", "0", "server.use_tls", False),
        ("USE_TLS", "TRUE", "server.use_tls", True),
        ("USE_TLS", "yes", "server.use_tls", True),
        ("USE_TLS", "on", "server.use_tls", True),
        ("USE_TLS", "1", "server.use_tls", True),
        ("PORT", " 8080 ", "server.port", 8080),
        ("HOST", "::", "server.host", "::"),
        ("SSL_CERT_PATH", "/a.crt", "tls.cert_path", "/a.crt"),
        ("SSL_PRIVATE_FILE", "/a.key", "tls.key_path", "/a.key"),
        ("DATA_PATH", "/Data", "data.path", "/Data"),
        ("METRICS_PORT", "0", "metrics.port", 0),
        ("ZEROCOPY_SERVER_PORT", "8080", "server.port", 8080),
        ("ZEROCOPY_SERVER_WORKERS", "3", "server.workers", 3),
        ("ZEROCOPY_PLAIN_PORT", "8081", "plain.port", 8081),
        ("ZEROCOPY_TIMEOUTS_IDLE_S", "91.5", "timeouts.idle_s", 91.5),
        ("ZEROCOPY_LOG_LEVEL", "DEBUG", "log.level", "debug"),
    ],
)
def test_load_environment_text_becomes_value(
    variable: str, text: str, key: str, expected: object
) -> None:
    """Variables are text; numbers and switches are read from it, strings kept as they are."""
    config = load(environ={variable: text, "UNRELATED": "x", "ZEROCOPY": "x"})
    assert value(config, key) == expected
    assert config.origins[key] == (Layer.ENVIRONMENT, variable)


def test_load_every_option_has_a_variable_of_its_own() -> None:
    """Each option is set by ZEROCOPY_<TABLE>_<KEY>; the seven short names are the contract's."""
    assert all(VARIABLES[f"ZEROCOPY_{key.replace('.', '_').upper()}"] == key for key in OPTIONS)
    short = [name for name in VARIABLES if not name.startswith("ZEROCOPY_")]
    assert " ".join(short) == (
        "USE_TLS HOST PORT SSL_CERT_PATH SSL_PRIVATE_FILE DATA_PATH METRICS_PORT"
    )
    for key, option in OPTIONS.items():
        text = str(option.defaults["development"])
        if text != "None":
            config = load(environ={option.variables[0]: text})
            assert value(config, key) == option.defaults["development"]


def test_load_environment_empty_counts_as_unset() -> None:
    """An empty variable, as compose files make them, changes nothing and is never refused."""
    empty = dict.fromkeys([*VARIABLES, "ZEROCOPY_CONFIG", "ZEROCOPY_PROFILE", "ZEROCOPY_NO"], "")
    assert load(environ=empty) == load(environ={})


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"PORT": "http"}, "PORT: expected int, got 'http'"),
        ({"PORT": "70000"}, "PORT: expected int <= 65535, got '70000'"),
        ({"USE_TLS": "maybe"}, "USE_TLS: expected bool, got 'maybe'"),
        ({"ZEROCOPY_TIMEOUTS_IDLE_S": "nan"}, "ZEROCOPY_TIMEOUTS_IDLE_S: expected float > 0.0"),
        ({"ZEROCOPY_LOG_LEVEL": "loud"}, "ZEROCOPY_LOG_LEVEL: expected one of debug, info, "),
        (
            {"PORT": "1", "ZEROCOPY_SERVER_PORT": "1"},
            "ZEROCOPY_SERVER_PORT: PORT sets the same option; keep one of them",
        ),
    ],
)
def test_load_environment_wrong_is_refused_with_variable(
    environ: Mapping[str, str], line: str
) -> None:
    """A variable that is wrong, unknown or doubled is named with what would be right."""
    assert refusal(environ=environ).startswith(line)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ZEROCOPY_LIMITS_DAY_MAX", "ZEROCOPY_LIMITS_DAYS_MAX"),
        ("ZEROCOPY_PROFIL", "ZEROCOPY_PROFILE"),
        ("ZEROCOPY_PORT", "PORT"),
    ],
)
def test_load_environment_unknown_is_refused_with_nearest(name: str, nearest: str) -> None:
    """A variable that begins with ZEROCOPY_ and names no option is a slip of the pen."""
    line = f"{name}: unknown environment variable; did you mean {nearest}?"
    assert refusal(environ={name: "1"}) == line


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"server.prt": 1}, "flag server.prt: unknown key; did you mean server.port?"),
        ({"server.port": "x"}, "flag server.port: expected int, got 'x'"),
        ({"columns.id": "u3"}, "flag columns.id: expected one of u1 "),
    ],
)
def test_load_flag_wrong_is_refused_with_flag(flags: Mapping[str, object], line: str) -> None:
    """A flag that is wrong is named with what would be right."""
    assert refusal(flags=flags).startswith(line)


# The columns.


@each("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8", "S1", "S16", "S255"])
def test_load_columns_dtype_is_accepted(dtype: str) -> None:
    """Every dtype of the manual is accepted, from the file and from the environment."""
    write(f"[columns]\nid = '{dtype}'\n'a.b' = 'u2'\n")
    assert load(environ={}).columns == {"id": dtype, "a.b": "u2"}
    assert load(environ={"ZEROCOPY_COLUMNS_Id_x": dtype}).columns["Id_x"] == dtype


@pytest.mark.parametrize("dtype", ["'u3'", "'f2'", "'S0'", "'S256'", "'S'", "'U4'", "'u4 '", "4"])
def test_load_columns_dtype_unknown_is_refused(dtype: str) -> None:
    """Anything else is refused with the list of what there is."""
    assert refusal(f"[columns]\nid = {dtype}") == (
        "config.toml: [columns] id: expected one of u1 u2 u4 u8 i1 i2 i4 i8 f4 f8 or S1 to S255, "
        f"got {dtype}"
    )


def test_load_columns_time_is_always_u4() -> None:
    """`time` may be declared as what it is, and as nothing else."""
    write("[columns]\ntime = 'u4'\n")
    assert load(environ={}).columns == {"time": "u4"}
    assert refusal("[columns]\ntime = 'u8'") == (
        "config.toml: [columns] time: expected u4, time is unix seconds, got 'u8'"
    )


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a" * 65])
def test_load_columns_name_that_no_file_can_have_is_refused(name: str) -> None:
    """A column name follows the contract's rule for names."""
    assert "not a column name" in refusal(f"[columns]\n'{name}' = 'u4'")
    assert "not a column name" in refusal(environ={f"ZEROCOPY_COLUMNS_{name}": "u4"})


def test_load_text_that_is_no_utf_8_is_refused() -> None:
    """No worker could be told of it; a path or a file of such a name is the operator's error."""
    path = os.fsdecode(b"/data/\xff")
    assert refusal(environ={"DATA_PATH": path}) == "DATA_PATH: is not UTF-8: '/data/\\udcff'"
    with pytest.raises(ConfigError, match="name of this file is not UTF-8"):
        load(path, environ={})


def test_config_is_frozen() -> None:
    """Nobody changes the configuration after it was checked."""
    config = load(environ={})
    change: Callable[[object, str, object], None] = setattr
    for target, name in ((config, "profile"), (config.server, "port")):
        with pytest.raises(AttributeError):
            change(target, name, 1)
