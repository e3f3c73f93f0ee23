"""The tables of config.toml: one Struct a table, each option declared once.

Owns the name, type, bounds, default and description of every option. It must never know where a
value comes from, nor what uses it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

# Bounds of the bounds: beyond what a machine of today carries, near enough to catch a slipped zero.
Port = Annotated[int, Meta(ge=0, le=65_535)]
SomeGenerations = Annotated[int, Meta(ge=2, le=64)]
Few = Annotated[int, Meta(ge=1, le=1_024)]
FewOrNone = Annotated[int, Meta(ge=0, le=1_024)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
ManyRecords = Annotated[int, Meta(ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=1_073_741_824)]  # one sendfile(2) moves less than 2 GiB
ManyBytes = Annotated[int, Meta(ge=0, le=1_099_511_627_776)]
SomeBytes = Annotated[int, Meta(ge=256, le=1_073_741_824)]
SomeSeries = Annotated[int, Meta(ge=1, le=65_536)]
MessageBytes = Annotated[int, Meta(ge=65_536, le=67_108_864)]
Heartbeat = Annotated[float, Meta(ge=1, le=3_600)]
PollMs = Annotated[int, Meta(ge=10, le=60_000)]
Days = Annotated[int, Meta(ge=0, le=366)]
MaxAge = Annotated[int, Meta(ge=0, le=31_536_000)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Timeout = Annotated[float, Meta(gt=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1)]
RedisUrl = Annotated[str, Meta(pattern=r"^(rediss?|unix)://")]
Level = Literal["debug", "info", "warning", "error"]


def _doc(description: str, **extra: object) -> Meta:
    """Describe an option; `variable` is its short environment name, `production` a default."""
    return Meta(description=description, extra=extra)


class ServerTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the main listener and the worker processes behind it."""

    use_tls: Annotated[bool, _doc("TLS and HTTP/2, or plain HTTP/1.1.", variable="USE_TLS")] = True
    host: Annotated[
        Text, _doc("The address of every listener.", variable="HOST", production="0.0.0.0")  # noqa: S104
    ] = "127.0.0.1"
    port: Annotated[Port, _doc("The TCP port of the main listener.", variable="PORT")] = 8443
    workers: Annotated[FewOrNone, _doc("Worker processes; 0: one a core.", production=0)] = 1
    backlog: Annotated[Count, _doc("Connections of a listener waiting to be accepted.")] = 1_024
    drain_deadline_s: Annotated[Seconds, _doc("Seconds that requests get to finish.")] = 30.0
    drain_idle_s: Annotated[Seconds, _doc("Seconds that idle connections get in a drain.")] = 5.0
    start_deadline_s: Annotated[Timeout, _doc("Seconds that a worker may take to start.")] = 30.0
    generations_max: Annotated[
        SomeGenerations, _doc("Generations of workers at once, those that drain included.")
    ] = 4
    page: Annotated[bool, _doc("The page of charts at /, and its files below /ui/.")] = True


class PlainTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[plain]`: plain HTTP/1.1, beside a main listener that speaks TLS."""

    port: Annotated[Port | None, _doc("The TCP port of plain HTTP/1.1.")] = None


class TlsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tls]`: the certificate, and TLS beside a main listener that is plain."""

    port: Annotated[Port | None, _doc("The TCP port of HTTP/2 over TLS.")] = None
    cert_path: Annotated[
        Text, _doc("The PEM file of the certificate and its chain.", variable="SSL_CERT_PATH")
    ] = "certs/localhost.crt"
    key_path: Annotated[
        Text, _doc("The PEM file of the private key.", variable="SSL_PRIVATE_FILE")
    ] = "certs/localhost.key"


class DataTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[data]`: where the day files are and when a day is closed."""

    path: Annotated[Text, _doc("The root of the day files.", variable="DATA_PATH")] = "/mnt/md/data"
    settle_s: Annotated[Seconds, _doc("Seconds without a change that close a past day.")] = 600.0
    gap_days: Annotated[Days, _doc("Days that a past day without files stays open.")] = 7


class S3Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[s3]`: the object store that `[data] path` names by a URL, and the cache in front of it."""

    endpoint: Annotated[Text | None, _doc("The URL of a store that is not Amazon's.")] = None
    region: Annotated[Text | None, _doc("The region of the bucket.")] = None
    allow_http: Annotated[bool, _doc("Whether an endpoint may be plain http.")] = False
    cache_path: Annotated[Text | None, _doc("The directory of the files fetched.")] = None
    cache_bytes_max: Annotated[ManyBytes, _doc("Bytes of files kept there.")] = 107_374_182_400
    list_s: Annotated[Timeout, _doc("Seconds for which a listing of the store is believed.")] = 60.0
    timeout_s: Annotated[Timeout, _doc("Seconds that the store may bring no byte.")] = 10.0
    fetch_threads: Annotated[Few, _doc("Files fetched at a time.")] = 16
    read_ahead_bytes_max: Annotated[
        Bytes, _doc("Bytes of an answer fetched before they are sent.")
    ] = 67_108_864
    check_md5: Annotated[bool, _doc("Whether an ETag of 32 hex digits is an MD5.")] = True
    check_bytes_per_s_max: Annotated[
        Bytes, _doc("Bytes a second of the cache that are checked after a start.")
    ] = 104_857_600


class CacheTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cache]`: what caches between server and client may keep."""

    closed_max_age_s: Annotated[MaxAge, _doc("Seconds that closed days may be cached.")] = 3_600


class LimitsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: everything that can grow, each bound for one worker process."""

    connections_max: Annotated[Count, _doc("Open connections; one more gets 503.")] = 10_000
    connections_per_address_max: Annotated[
        CountOrNone, _doc("Open connections of one address; one more gets 503.")
    ] = 0
    requests_in_flight_max: Annotated[Count, _doc("Requests at work; one more gets 503.")] = 1_000
    target_bytes_max: Annotated[SomeBytes, _doc("Bytes of a request target; more is 414.")] = 8_192
    field_bytes_max: Annotated[SomeBytes, _doc("Bytes of one field; more is 431.")] = 8_192
    head_bytes_max: Annotated[SomeBytes, _doc("Bytes of a request head; more is 431.")] = 32_768
    fields_max: Annotated[Few, _doc("Fields of one request; more is 431.")] = 100
    content_bytes_max: Annotated[Bytes, _doc("Bytes of request content read and dropped.")] = 65_536
    columns_max: Annotated[Few, _doc("Columns of one query; more is 400.")] = 32
    days_max: Annotated[Count, _doc("Days on disk one query may touch; more is 400.")] = 50_000
    segments_max: Annotated[Count, _doc("Segments one query may touch; more is 400.")] = 200_000
    turn_bytes_max: Annotated[SomeBytes, _doc("Bytes a connection sends in a turn.")] = 1_048_576
    small_answer_bytes_max: Annotated[Bytes, _doc("Bytes of a body sent with its head.")] = 65_536
    streams_max: Annotated[Few, _doc("HTTP/2 streams a connection has open at once.")] = 100
    control_frames_max: Annotated[
        Count, _doc("HTTP/2 frames a second that serve no request; more end it.")
    ] = 1_000
    planner_threads: Annotated[Few, _doc("Threads that plan queries; more queries wait.")] = 4
    reader_threads: Annotated[Few, _doc("Threads that read what is not in memory.")] = 4


class FormatsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[formats]`: answers in json, csv and parquet, whose bytes are no file's."""

    records_max: Annotated[ManyRecords, _doc("Records of a computed answer; more is 400.")] = (
        10_000_000
    )
    spool_bytes_max: Annotated[
        ManyBytes, _doc("Bytes of computed answers at a time; more is 503.")
    ] = 536_870_912
    spool_path: Annotated[
        Text | None, _doc("The directory of computed answers; else they are in memory.")
    ] = None


class TimeoutsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[timeouts]`: how long a client may keep a connection without getting on."""

    header_read_s: Annotated[Timeout, _doc("Seconds that a request head may take.")] = 10.0
    idle_s: Annotated[Timeout, _doc("Seconds that may pass between two requests.")] = 180.0
    write_progress_s: Annotated[Timeout, _doc("Seconds that a client may take no byte.")] = 30.0


class MemoryTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[memory]`: what one worker process keeps between requests."""

    open_files_max: Annotated[Count, _doc("Day files kept open between requests.")] = 512
    mapped_files_max: Annotated[Count, _doc("Files of closed days kept mapped for TLS.")] = 512
    read_ahead_bytes_max: Annotated[
        SomeBytes, _doc("Bytes of an answer read in by a thread at once.")
    ] = 16_777_216
    locked_bytes_max: Annotated[ManyBytes, _doc("Bytes of mapped files locked into memory.")] = (
        268_435_456
    )
    plan_cache_bytes_max: Annotated[Bytes, _doc("Bytes of plans kept for reuse.")] = 33_554_432
    watched_directories_max: Annotated[
        CountOrNone, _doc("Directories watched for /api/symbols; more are walked.")
    ] = 100_000


class RollupsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[rollups]`: what is computed ahead of closed days for /api/bars."""

    bytes_max: Annotated[ManyBytes, _doc("Bytes of roll-ups kept in memory.")] = 67_108_864
    path: Annotated[Text | None, _doc("The directory of the files of roll-ups.")] = None
    disk_bytes_max: Annotated[ManyBytes, _doc("Bytes of roll-ups kept there.")] = 10_737_418_240


class LiveTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[live]`: streams of what is appended, /api/live."""

    subscribers_max: Annotated[Count, _doc("Streams at a time; one more gets 503.")] = 10_000
    series_max: Annotated[
        SomeSeries, _doc("Series and columns that are read at a time; one more gets 503.")
    ] = 256
    message_bytes_max: Annotated[MessageBytes, _doc("Bytes of a message.")] = 1_048_576
    heartbeat_s: Annotated[Heartbeat, _doc("Seconds without a message until a sign of life.")] = (
        15.0
    )
    poll_ms: Annotated[PollMs, _doc("Milliseconds between two looks where nobody tells.")] = 100
    announce: Annotated[
        RedisUrl | None, _doc("The Redis or Valkey by which recorders tell of appends.")
    ] = None


class AuthTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[auth]`: who may ask. With neither keys nor a key set, everybody may."""

    keys_path: Annotated[
        Text | None, _doc("The file of API keys, made by `zerocopy keys add`.")
    ] = None
    jwks: Annotated[Text | None, _doc("The JWK set of signed tokens: a path or an https URL.")] = (
        None
    )
    issuer: Annotated[Text | None, _doc("Who issues tokens: their iss.")] = None
    audience: Annotated[Text | None, _doc("For whom tokens are: one of their aud.")] = None
    leeway_s: Annotated[Seconds, _doc("Seconds that the clock of an issuer may differ.")] = 30.0
    scope_claim: Annotated[
        Text | None, _doc("The claim that says what a token may see; without one: everything.")
    ] = None
    jwks_refresh_s: Annotated[Timeout, _doc("Seconds after which a key set is fetched again.")] = (
        600.0
    )
    jwks_stale_s: Annotated[
        Seconds, _doc("Seconds that a key set holds while its source cannot be read.")
    ] = 86_400.0
    ticket_secret_path: Annotated[
        Text | None, _doc("The file of the secret that signs tickets; without one: of this start.")
    ] = None
    requests_per_s_max: Annotated[
        CountOrNone, _doc("Requests a second of a key or token that says nothing; 0: any number.")
    ] = 0
    bytes_per_day_max: Annotated[
        ManyBytes, _doc("Bytes a day (UTC) of a key or token that says nothing; 0: any number.")
    ] = 0
    streams_max: Annotated[
        CountOrNone, _doc("Live streams of a key or token that says nothing; 0: any number.")
    ] = 0
    requests_per_s_per_address_max: Annotated[
        CountOrNone, _doc("Requests a second of one address; 0: any number.")
    ] = 0
    address_field: Annotated[
        Text | None, _doc("The field in which a proxy tells the address of the client.")
    ] = None
    limits_url: Annotated[
        Text | None, _doc("The Redis or Valkey that counts for several servers.")
    ] = None
    limits_fail: Annotated[
        Literal["open", "closed"], _doc("Whether requests pass while that is away.")
    ] = "open"

    @property
    def is_on(self) -> bool:
        """Whether a request has to say who asks."""
        return self.keys_path is not None or self.jwks is not None


class MetricsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[metrics]`: the Prometheus listener."""

    host: Annotated[Text, _doc("The address of the metrics listener.")] = "127.0.0.1"
    port: Annotated[Port, _doc("The TCP port of /metrics.", variable="METRICS_PORT")] = 9091


class LogTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: one event a line on standard error."""

    level: Annotated[Level, _doc("The least severe level that is written.")] = "info"
    format: Annotated[Literal["auto", "json", "console"], _doc("The form of a line.")] = "auto"
    access_sample: Annotated[Share, _doc("The share of requests that get a line.")] = 0.0
    lines_waiting_max: Annotated[Count, _doc("Lines waiting to be written; more are lost.")] = 4_096
    events_per_second_max: Annotated[
        Count, _doc("Lines a second of each event of a worker; more are counted.")
    ] = 10
