"""The configuration: config.toml, the environment and flags, read once into frozen tables.

It owns the order in which the places override each other, and the one line that stops a start that
was asked for wrongly. It must never know who uses a value: no sockets, no certificates, no day
files, no logging.

The idea to read it by: `OPTIONS` is derived from the Structs of options.py, and everything else
from `OPTIONS`: accepted keys, environment variables, validation, and the test that holds
config.toml, the manual, to the same words and defaults. Each place is
read into checked settings; of two settings of one key the later wins, in the order: defaults of
the profile, [table], [profile.table], environment, flags. Only `load` validates: a Struct made
directly holds what it is given.
"""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import tomllib
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from zerocopy.config.options import (
    AuthTable,
    CacheTable,
    DataTable,
    FormatsTable,
    LimitsTable,
    LiveTable,
    LogTable,
    MemoryTable,
    MetricsTable,
    PlainTable,
    RollupsTable,
    S3Table,
    ServerTable,
    TimeoutsTable,
    TlsTable,
)
from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import DTYPE_RULE, is_name, parse_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PROFILES: Final = ("development", "production")
SEARCH_PATHS: Final = ("config.toml", "/etc/zerocopy/config.toml")

_PREFIX: Final = "ZEROCOPY_"
_PORTS: Final = ("server.port", "plain.port", "tls.port", "metrics.port")
_OWN_VARIABLES: Final = ("ZEROCOPY_CONFIG", "ZEROCOPY_PROFILE")
_OTHERS_VARIABLES: Final = ("ZEROCOPY_URL", "ZEROCOPY_KEY")  # the clients'
_SERVICE: Final = re.compile(
    r"\w+_(?:"
    r"SERVICE_HOST=[0-9A-Fa-f.:]+"
    r"|SERVICE_PORT(?:_\w+)?=[0-9]+"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?=(?:tcp|udp|sctp)://\S+"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)_(?:PROTO=(?:tcp|udp|sctp)|PORT=[0-9]+|ADDR=[0-9A-Fa-f.:]+)"
    r")"
)
"""What Kubernetes tells each container of each Service: `ZEROCOPY_PORT=tcp://10.96.7.1:8443` of one
called zerocopy. `ZEROCOPY_METRICS_PORT` may be that or an option, so the value is looked at too."""
_STORE_URL: Final = re.compile(r"[a-z][a-z0-9]*://")
_CHARACTERS_MAX: Final = 1_048_576  # of the file: a device has no end
_STORES: Final = ("redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster")
_WORDS: Final = {"yes": True, "on": True, "no": False, "off": False}


class Layer(IntEnum):
    """The places a value can come from; the higher overrides the lower."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


class Origin(NamedTuple):
    """Where a value was set: the layer, and the words that name the place to the operator."""

    layer: Layer
    label: str


_DEFAULT: Final = Origin(Layer.DEFAULT, "default")
_Setting = tuple[str, Any, Origin]  # dotted key, value, where it was set


class ListenerPorts(NamedTuple):
    """The ports to open: None is no listener, 0 any free port."""

    plain_port: int | None
    tls_port: int | None


class Config(Struct, frozen=True, kw_only=True):
    """Every option, and where it came from; `Config()` holds the defaults of development."""

    server: ServerTable = ServerTable()
    plain: PlainTable = PlainTable()
    tls: TlsTable = TlsTable()
    data: DataTable = DataTable()
    s3: S3Table = S3Table()
    columns: dict[str, str] = {}  # column name to dtype; a Struct copies an empty default
    cache: CacheTable = CacheTable()
    limits: LimitsTable = LimitsTable()
    formats: FormatsTable = FormatsTable()
    timeouts: TimeoutsTable = TimeoutsTable()
    memory: MemoryTable = MemoryTable()
    rollups: RollupsTable = RollupsTable()
    live: LiveTable = LiveTable()
    auth: AuthTable = AuthTable()
    metrics: MetricsTable = MetricsTable()
    log: LogTable = LogTable()
    profile: str = PROFILES[0]
    path: str | None = None  # the file that was read, if any
    origins: dict[str, Origin] = {}  # by dotted key, "server.port"

    @property
    def store_url(self) -> str | None:
        """Where the day files are, if that is an object store."""
        return self.data.path if _STORE_URL.match(self.data.path) else None

    @property
    def root(self) -> str:
        """The local directory that day files are opened in: they lie there, or are fetched."""
        if self.store_url is None:
            return self.data.path
        assert self.s3.cache_path is not None, "checked when it was loaded"
        return os.path.join(self.s3.cache_path, "data")

    def listeners(self) -> ListenerPorts:
        """Resolve the ports; config.toml says how, at `[server] port`, `[plain]` and `[tls]`."""
        ports = {"plain": self.plain.port, "tls": self.tls.port}
        own = "tls" if self.server.use_tls else "plain"
        main_layer = self.origins.get("server.port", _DEFAULT).layer
        own_layer = self.origins.get(f"{own}.port", _DEFAULT).layer
        if ports[own] is None or main_layer >= max(Layer.ENVIRONMENT, own_layer):
            ports[own] = self.server.port
        return ListenerPorts(plain_port=ports["plain"], tls_port=ports["tls"])


class Option(NamedTuple):
    """One option as its Struct declares it; `defaults` holds one value for each profile."""

    table: str
    key: str
    type: Any
    description: str
    defaults: dict[str, object]
    variables: tuple[str, ...]


def _declared_options() -> Iterator[Option]:
    for table, struct in _TABLES.items():
        for field in fields(struct):
            meta = field.type.__metadata__[-1]
            long, short = f"{_PREFIX}{table}_{field.name}".upper(), meta.extra.get("variable")
            defaults = {profile: meta.extra.get(profile, field.default) for profile in PROFILES}
            names = (long, short) if short else (long,)
            yield Option(table, field.name, field.type, meta.description, defaults, names)


_TABLES: Final = {f.name: f.type for f in fields(Config) if isinstance(f.default, Struct)}
OPTIONS: Final = {f"{option.table}.{option.key}": option for option in _declared_options()}
VARIABLES: Final = {name: key for key, option in OPTIONS.items() for name in option.variables}


def load(
    path: str | None = None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Read and check the file that `--config`, $ZEROCOPY_CONFIG or SEARCH_PATHS name, and the rest.

    Empty variables count as unset, and so do flags of None; flags have dotted keys, "server.port".

    Raises:
        ConfigError: One line that names the place, the key and what would be right.
    """
    variables = {name: text.strip() for name, text in environ.items() if text.strip()}
    profile = variables.get("ZEROCOPY_PROFILE", PROFILES[0])
    if profile not in PROFILES:
        raise _error(f"ZEROCOPY_PROFILE: unknown profile {profile}", _nearest(profile, PROFILES))
    found, document = _read(path, variables)
    tables: dict[str, Any] = {table: {} for table in (*_TABLES, "columns")}
    origins: dict[str, Origin] = {}
    for key, value, origin in (
        *((key, option.defaults[profile], _DEFAULT) for key, option in OPTIONS.items()),
        *_file_settings(found, document, profile),
        *_environment_settings(variables),
        *_flag_settings(flags or {}),
    ):
        table, _, name = key.partition(".")
        tables[table][name], origins[key] = value, origin
    tables |= {table: struct(**tables[table]) for table, struct in _TABLES.items()}
    config = Config(**tables, profile=profile, path=found, origins=origins)
    _check_relations(config)
    return config


def passed_over(environ: Mapping[str, str]) -> list[str]:
    """The variables that look like options and are those of a Kubernetes Service."""
    return [
        name
        for name, text in environ.items()
        if (name in VARIABLES or name.startswith(_PREFIX)) and _is_of_a_service(name, text)
    ]


def _is_of_a_service(name: str, text: str) -> bool:
    return _SERVICE.fullmatch(f"{name}={text.strip()}") is not None


def _read(path: str | None, variables: Mapping[str, str]) -> tuple[str | None, dict[str, Any]]:
    """Find and parse the file; one that was named must be there, the others may be missing."""
    named = path or variables.get("ZEROCOPY_CONFIG")
    found = named or next(filter(os.path.exists, SEARCH_PATHS), None)
    if not found:
        return None, {}
    if not _is_text(found):
        raise _error(f"{found}: the name of this file is not UTF-8")
    try:
        with open(found, encoding="utf-8-sig") as file:
            text = file.read(_CHARACTERS_MAX + 1)
        if len(text) > _CHARACTERS_MAX:
            raise _error(f"{found}: is longer than {_CHARACTERS_MAX:,} characters")
        return found, tomllib.loads(text)
    except RecursionError:
        raise _error(f"{found}: values are nested too deeply") from None
    except (OSError, UnicodeError) as error:
        raise _error(f"{found}: cannot be read: {getattr(error, 'strerror', error)}") from None
    except ValueError as error:  # its message ends in the line, but for the end of the file
        end = f"at line {text.count(chr(10)) + 1}, the end"
        raise _error(f"{found}: {error}".replace("at end of document", end)) from None


def _file_settings(name: str | None, document: Any, profile: str) -> Iterator[_Setting]:
    """Yield the common tables, then those of the profile; the other profile is only checked."""
    overrides = {f"{other}.": document.pop(other, {}) for other in PROFILES}
    for prefix, tables in {"": document, **overrides}.items():
        settings = list(_table_settings(f"{name}: ", prefix, tables))
        yield from settings if prefix in ("", f"{profile}.") else ()


def _table_settings(name: str, prefix: str, tables: Any) -> Iterator[_Setting]:
    for table, values in _table(f"{name}[{prefix[:-1]}]", tables).items():
        if table not in (*_TABLES, "columns"):
            kind = "table" if isinstance(values, dict) else "key"
            raise _error(f"{name}unknown {kind} {prefix}{table}", _nearest_key("", table))
        for key, value in _table(f"{name}[{prefix}{table}]", values).items():
            label = f"[{prefix}{table}] {key}"
            if table != "columns" and f"{table}.{key}" not in OPTIONS:
                raise _error(f"{name}unknown key {label}", _nearest_key(table, key))
            yield _setting(f"{table}.{key}", value, Origin(Layer.FILE, f"{name}{label}"))


def _table(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _error(f"{label}: expected a table, got {type(value).__name__}")
    return value


def _environment_settings(variables: Mapping[str, str]) -> Iterator[_Setting]:
    names: dict[str, str] = {}
    for name, text in variables.items():
        if name in _OTHERS_VARIABLES or _is_of_a_service(name, text):
            continue
        column = name.removeprefix(f"{_PREFIX}COLUMNS_")
        key = VARIABLES.get(name) if column == name else f"columns.{column}"
        if key is not None:
            if names.setdefault(key, name) != name:
                raise _error(f"{name}: {names[key]} sets the same option; keep one of them")
            yield _setting(key, text, Origin(Layer.ENVIRONMENT, name))
        elif name.startswith(_PREFIX) and name not in _OWN_VARIABLES:
            short = name.removeprefix(_PREFIX)
            nearest = short if short in VARIABLES else _nearest(name, [*VARIABLES, *_OWN_VARIABLES])
            raise _error(f"{name}: unknown environment variable", nearest)


def _flag_settings(flags: Mapping[str, object]) -> Iterator[_Setting]:
    for key, value in flags.items():
        if key not in OPTIONS and not key.startswith("columns."):
            raise _error(f"flag {key}: unknown key", _nearest(key, OPTIONS))
        if value is not None:
            yield _setting(key, value, Origin(Layer.FLAG, f"flag {key}"))


def _setting(key: str, value: Any, origin: Origin) -> _Setting:
    """Check one value: the file says types exactly, environment and flags may say them in text."""
    if key.startswith("columns."):
        return key, _dtype(key.removeprefix("columns."), value, origin.label), origin
    if isinstance(value, str) and not _is_text(value):
        raise _error(f"{origin.label}: is not UTF-8: {reprlib.repr(value)}")
    if isinstance(value, str) and "\0" in value:
        raise _error(f"{origin.label}: holds a NUL byte: {reprlib.repr(value)}")
    expected_type, strict = OPTIONS[key].type, origin.layer is Layer.FILE
    base = expected_type.__origin__
    if isinstance(value, str) and not strict and base is not str:
        value = value.lower()
        value = _WORDS.get(value, value) if base is bool else value
    try:
        return key, msgspec.convert(value, expected_type, strict=strict), origin
    except msgspec.ValidationError as error:
        expected, _, got = str(error).replace("`", "").replace(" | null", "").partition(", got ")
        if get_origin(base) is Literal:
            expected = f"Expected one of {', '.join(get_args(base))}"
        got = got if got and strict else reprlib.repr(value)
        raise _error(f"{origin.label}: e{expected[1:]}, got {got}") from None


def _is_text(value: str) -> bool:
    """Whether it has no surrogates, by which Python hands on bytes that are not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dtype(column: str, value: object, label: str) -> str:
    if not is_name(column):
        raise _error(f"{label}: not a column name of 1 to 64 letters, digits and ._:+@^=&#~-")
    if not isinstance(value, str):
        raise _error(f"{label}: expected {DTYPE_RULE}, got {reprlib.repr(value)}")
    try:
        parse_dtype(column, value)
    except ConfigError as error:
        raise _error(f"{label}: {error.detail}") from None
    return value


def _check_relations(config: Config) -> None:
    """Check what no single option can promise; the line names the place that overrode the rest."""
    for parts, whole in (  # the sum of the left never exceeds the right
        (("target_bytes_max", "field_bytes_max"), "head_bytes_max"),
        (("columns_max",), "segments_max"),
        (("small_answer_bytes_max",), "turn_bytes_max"),
    ):
        total = sum(getattr(config.limits, part) for part in parts)
        most = getattr(config.limits, whole)
        if total > most:
            label = max(config.origins[f"limits.{key}"] for key in (*parts, whole)).label
            raise _error(f"{label}: {' + '.join(parts)} ({total}) must not exceed {whole} ({most})")
    auth = config.auth
    if auth.jwks is not None and None in (auth.issuer, auth.audience):
        missing = "issuer" if auth.issuer is None else "audience"
        label = config.origins["auth.jwks"].label
        raise _error(
            f"{label}: needs [auth] {missing} beside it: tokens for other services would pass"
        )
    ports = [port for port in (*config.listeners(), config.metrics.port) if port]
    for port in ports:
        if ports.count(port) > 1:
            label = max(config.origins[key] for key in _PORTS).label
            raise _error(f"{label}: two listeners on port {port}; each needs a port of its own")
    url = config.auth.limits_url
    if url is not None and url.partition("://")[0] not in _STORES:
        label = config.origins["auth.limits_url"].label
        raise _error(f"{label}: expected the URL of a Redis, {'://, '.join(_STORES)}://")
    if config.store_url is not None and config.s3.cache_path is None:
        label = config.origins["data.path"].label
        raise _error(f"{label}: an object store needs a directory for its files: [s3] cache_path")
    if config.rollups.path is not None:
        root, path = map(os.path.realpath, (config.root, config.rollups.path))
        if os.path.commonpath((root, path)) == root:
            label = max(config.origins[key] for key in ("data.path", "rollups.path")).label
            raise _error(
                f"{label}: [rollups] path ({path}) must lie outside of [data] path ({root})"
            )


def _nearest_key(table: str, key: str) -> str:
    """Prefer the very key in another table, then a like key in this one, then a like table."""
    same = [f"[{option.table}] {key}" for option in OPTIONS.values() if option.key == key]
    own = [option.key for option in OPTIONS.values() if option.table == table]
    tables = [f"[{name}]" for name in (*_TABLES, "columns", *PROFILES)]
    return same[0] if same else _nearest(key, own or tables)


def _nearest(word: str, candidates: Iterable[str]) -> str:
    return difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.0)[0]


def _error(message: str, nearest: str = "") -> ConfigError:
    """Keep it to one line, whatever the operator's keys and values hold."""
    message += f"; did you mean {nearest}?" if nearest else ""
    return ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
