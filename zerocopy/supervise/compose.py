"""From a configuration to the objects that serve it: the place that knows them.

Owns no state. Below it each class gets exactly the values that it uses. What the TLS listener
needs beyond that is in `compose_tls.py`.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import nullcontext
from typing import TYPE_CHECKING

from zerocopy.config.descriptors import OWN_DESCRIPTORS, descriptors_kept, reader_threads
from zerocopy.config.places import rollup_place
from zerocopy.core.access import Allowance
from zerocopy.core.layout import Dtypes
from zerocopy.core.plan import LIVE_FETCHING_THREADS, LIVE_THREADS
from zerocopy.core.settling import Settling
from zerocopy.formats.announcement import FILES, OBJECTS
from zerocopy.observe.access_log import AccessLog, naming
from zerocopy.observe.log import get_logger
from zerocopy.service.computed import ComputedWork
from zerocopy.service.live.live import Live
from zerocopy.service.page import page_documents
from zerocopy.service.service import Service
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.libc.memlock import MemoryLocks
from zerocopy.storage.mapping import MappedFiles
from zerocopy.storage.planner import Planner
from zerocopy.storage.rollups import Rollups
from zerocopy.storage.symbols.index import SymbolIndex
from zerocopy.transport.context import ConnectionLimits
from zerocopy.transport.http1.server import Http1Server
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.metered_metrics import MeteredMetrics
from zerocopy.transport.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import AbstractContextManager

    from zerocopy.access.limits import Limits
    from zerocopy.access.tokens import Tokens
    from zerocopy.config.load import Config
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.service.guard.guarded import GuardedService
    from zerocopy.storage.live.follower import DayFollower
    from zerocopy.storage.planner import QueryPlanner
    from zerocopy.supervise.control import WorkerSpec
    from zerocopy.transport.admission import Admission
    from zerocopy.transport.request_metrics import Access, Tally

KEY_SET_LATE_S = 3.0
"""Seconds that a fetch or a look may take, so that a key set is not too old whenever one is due."""

STORE_POLL_MS = 1_000
"""Milliseconds between two looks at what is known of an object store, which is shared by workers:
one of them may have listed it."""

_log = get_logger(__name__)


def build_service(
    config: Config,
    counters: Counters,
    executor: ThreadPoolExecutor,
    readers: ThreadPoolExecutor | None = None,
) -> Service:
    """The service that `config` describes; `readers` are threads of their own, or the same."""
    limits, memory = config.limits, config.memory
    mapped = None
    if config.listeners().tls_port is not None:
        locks = MemoryLocks(
            memory.locked_bytes_max,
            lambda sentence: _log.warning("memory_not_locked", detail=sentence),
        )
        mapped = MappedFiles(memory.mapped_files_max, locks)
    stored = None
    if config.store_url is not None:
        from zerocopy.supervise.compose_store import build_stored  # noqa: PLC0415 - an extra

        stored = build_stored(config, counters, mapped, build_rollups(config, counters))
        stored.check.start()
        if not stored.check.is_possible:
            _log.warning("store_cache_not_checked", path=config.s3.cache_path)
    files = stored.files if stored else OpenFiles(config.root, memory.open_files_max, mapped)
    planner: QueryPlanner = stored.planner if stored else build_planner(config, counters, files)
    return Service(
        root=config.root,
        planner=planner,
        files=files,
        contents=stored and stored.contents,
        symbols=stored.symbols
        if stored
        else SymbolIndex(
            config.root,
            memory.watched_directories_max,
            lambda sentence: _log.warning("symbols_not_watched", detail=sentence),
        ),
        executor=executor,
        readers=readers or executor,
        readers_max=reader_threads(config),
        counters=counters,
        requests_in_flight_max=limits.requests_in_flight_max,
        plan_cache_bytes_max=memory.plan_cache_bytes_max,
        columns_max=limits.columns_max,
        closed_max_age_s=closed_max_age_s(config),
        computed=ComputedWork(
            planner,
            files,
            records_max=config.formats.records_max,
            spool_bytes_max=config.formats.spool_bytes_max,
            spool_path=config.formats.spool_path,
            small_answer_bytes_max=limits.small_answer_bytes_max,
        ),
        live=build_live(config, counters, executor, files, stored and stored.follower),
        page=page_documents() if config.server.page else {},
        is_private=config.auth.is_on,
    )


def build_guard(
    service: Service,
    spec: WorkerSpec,
    executor: ThreadPoolExecutor,
    counters: Counters,
    limits: Limits | None = None,
) -> GuardedService | None:
    """What asks who asks, where `[auth]` is on; blocks while it reads the key file."""
    config = spec.config
    auth = config.auth
    if not auth.is_on:
        return None
    from zerocopy.access.authenticator import Authenticator  # noqa: PLC0415 - only where it is on
    from zerocopy.access.tickets import Tickets  # noqa: PLC0415
    from zerocopy.observe.named_counters import NamedCounters  # noqa: PLC0415
    from zerocopy.service.guard.guarded import GuardedService  # noqa: PLC0415

    default = Allowance(
        auth.requests_per_s_max or None, auth.bytes_per_day_max or None, auth.streams_max or None
    )
    tokens = build_tokens(config, default, executor, spec.key_set_fds)
    authenticator = Authenticator(default, auth.keys_path, Tickets(spec.ticket_secret), tokens)
    names = None
    if config.store_url is not None:
        from zerocopy.supervise.compose_store import build_names  # noqa: PLC0415 - an extra

        names = build_names(config, counters)
    guard = GuardedService(
        service,
        authenticator,
        executor,
        root=config.root,
        columns_max=config.limits.columns_max,
        counters=counters,
        named=NamedCounters(spec.names_fd, spec.row),
        limits=limits,
        names=names,
    )
    guard.load()
    return guard


def build_tokens(
    config: Config,
    allowance: Allowance,
    executor: ThreadPoolExecutor,
    key_set_fds: tuple[int, int] | None,
) -> Tokens | None:
    """What verifies tokens, where there is a key set; joserfc is loaded here and not before."""
    auth = config.auth
    if auth.jwks is None:
        return None
    from zerocopy.access.jwt import Policy  # noqa: PLC0415 - see above
    from zerocopy.access.keyset_source import KeySetFile, KeySetMemory  # noqa: PLC0415
    from zerocopy.access.tokens import Tokens  # noqa: PLC0415

    assert auth.issuer is not None, "checked with the configuration"
    assert auth.audience is not None, "and this"
    policy = Policy(auth.issuer, auth.audience, auth.leeway_s, auth.scope_claim)
    fresh_s = auth.jwks_stale_s + KEY_SET_LATE_S
    if key_set_fds is None:
        return Tokens(KeySetFile(auth.jwks), policy, allowance, executor, fresh_s=fresh_s)
    fresh_s += auth.jwks_refresh_s
    return Tokens(KeySetMemory(*key_set_fds), policy, allowance, executor, fresh_s=fresh_s)


def build_planner(config: Config, counters: Counters, files: OpenFiles) -> Planner:
    """The planner over the files of this machine that `config` describes."""
    return Planner(
        root=config.root,
        files=files,
        dtypes=Dtypes(config.columns),
        settling=Settling(config.data.settle_s, config.data.gap_days),
        days_max=config.limits.days_max,
        segments_max=config.limits.segments_max,
        small_answer_bytes_max=config.limits.small_answer_bytes_max,
        rollups=build_rollups(config, counters),
    )


def build_rollups(config: Config, counters: Counters) -> Rollups:
    """The roll-ups that `config` has room for."""
    place = rollup_place(config)
    return Rollups(
        bytes_max=config.rollups.bytes_max,
        path=place.path,
        disk_bytes_max=place.bytes_max,
        counters=counters,
        on_unwritable=lambda sentence: _log.warning("rollups_not_written", detail=sentence),
    )


def closed_max_age_s(config: Config) -> int:
    """How long closed days may be cached: of an object store, no longer than it is believed."""
    most_s = config.cache.closed_max_age_s
    return most_s if config.store_url is None else min(most_s, int(config.s3.list_s))


def build_live(
    config: Config,
    counters: Counters,
    executor: ThreadPoolExecutor,
    files: OpenFiles,
    follower: DayFollower | None = None,
) -> Live:
    """The live streams that `config` describes; `follower` looks where there is no directory."""
    return Live(
        root=config.root,
        files=files,
        dtypes=Dtypes(config.columns),
        executor=executor,
        counters=counters,
        subscribers_max=config.live.subscribers_max,
        series_max=config.live.series_max,
        message_bytes_max=config.live.message_bytes_max,
        read_bytes_max=config.limits.small_answer_bytes_max,
        heartbeat_s=config.live.heartbeat_s,
        poll_ms=poll_ms(config),
        on_refused=lambda sentence: _log.warning("live_not_watched", detail=sentence),
        on_failed=on_stream_failed,
        follower=follower,
        threads_max=LIVE_THREADS if follower is None else LIVE_FETCHING_THREADS,
    )


def listening(config: Config, live: Live, counters: Counters) -> AbstractContextManager[object]:
    """Hear `[live] announce` in the running loop, from enter to exit; nothing without it."""
    if config.live.announce is None:
        return nullcontext()
    from zerocopy.service.live.announced import Listener  # noqa: PLC0415 - an extra

    channel = FILES if config.store_url is None else OBJECTS
    loop = asyncio.get_running_loop()
    return Listener(config.live.announce, channel, live, loop, counters)


def poll_ms(config: Config) -> int:
    """Milliseconds between two looks where nobody tells: a listing is believed for longer."""
    if config.store_url is None:
        return config.live.poll_ms
    return max(config.live.poll_ms, min(STORE_POLL_MS, round(config.s3.list_s * 1_000 / 4)))


def raise_descriptor_limit(config: Config) -> int:
    """Take all descriptors the system allows. Returns how many of them connections may have.

    The rest is kept for day files and plans, or idle connections could leave none for a response.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = descriptors_kept(config) + OWN_DESCRIPTORS
    connections_max = config.limits.connections_max
    if hard != resource.RLIM_INFINITY and connections_max > hard - kept:
        connections_max = max(1, hard - kept)
        _log.warning("connections_capped", connections_max=connections_max, nofile=hard)
    return connections_max


def request_limits(config: Config) -> RequestLimits:
    """The bounds on one request that `config` describes."""
    limits = config.limits
    return RequestLimits(
        target_bytes_max=limits.target_bytes_max,
        field_bytes_max=limits.field_bytes_max,
        head_bytes_max=limits.head_bytes_max,
        fields_max=limits.fields_max,
        content_bytes_max=limits.content_bytes_max,
    )


def access_log(config: Config) -> Access | None:
    """The access log; None costs nothing."""
    sample = config.log.access_sample
    return AccessLog(sample) if sample else None


def metrics_type(config: Config) -> type[RequestMetrics]:
    """What counts requests: their bytes by name as well, where there are names."""
    return MeteredMetrics if config.auth.is_on else RequestMetrics


def build_plain(
    handler: Handler,
    config: Config,
    counters: Counters,
    admission: Admission,
    tally: Tally | None = None,
) -> Http1Server:
    """The plain listener that `config` describes, for the running loop."""
    timeouts = config.timeouts
    return Http1Server(
        loop=asyncio.get_running_loop(),
        handler=handler,
        limits=ConnectionLimits(
            turn_bytes_max=config.limits.turn_bytes_max,
            read_ahead_bytes_max=config.memory.read_ahead_bytes_max,
            open_files_max=config.memory.open_files_max,
            header_read_s=timeouts.header_read_s,
            idle_s=timeouts.idle_s,
            write_progress_s=timeouts.write_progress_s,
            request=request_limits(config),
        ),
        admission=admission,
        counters=counters,
        on_transfer_failed=on_transfer_failed,
        on_connection_failed=on_connection_failed,
        access=access_log(config),
        tally=tally,
        metrics_type=metrics_type(config),
    )


def on_transfer_failed(error: Exception, exchange: PendingRequest | None) -> None:
    """Log a response that was cut off."""
    cause, reason = str(error), repr(error.__cause__)
    _log.error("transfer_aborted", cause=cause, reason=reason, **naming(exchange))


def on_stream_failed(error: Exception) -> None:
    """Log what ended a live stream."""
    _log.error("live_stream_failed", cause=str(error), reason=repr(error.__cause__))


def on_connection_failed(error: BaseException) -> None:
    """Log an error of the server's own that ended a connection."""
    _log.error("connection_failed", exc_info=error)
