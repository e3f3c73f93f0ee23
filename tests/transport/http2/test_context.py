"""What the connections of the TLS listener share: their settings, and the date of their answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from h2.settings import SettingCodes

from tests.transport.tls_bench import LIMITS
from zerocopy.core.counters import SLOTS, TLS
from zerocopy.transport.body import SEGMENTS_HELD_MAX
from zerocopy.transport.http2.context import Http2Context, Http2Limits
from zerocopy.transport.http2.head import literal
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.timers import STALL_SAMPLES, Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNDS = Http2Limits(
    streams_max=7,
    control_frames_max=100,
    turn_bytes_max=1 << 20,
    read_ahead_bytes_max=1 << 20,
    open_files_max=512,
    header_read_s=10.0,
    idle_s=60.0,
    write_progress_s=40.0,
    drain_deadline_s=5.0,
    drain_idle_s=2.0,
    request=LIMITS,
)


@pytest.fixture
def context() -> Iterator[Http2Context]:
    """One with `BOUNDS`."""

    def never(*_: Any) -> None:
        raise AssertionError

    counters = [0] * len(SLOTS)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        yield Http2Context(
            loop=loop,
            handler=SimpleNamespace(),
            counters=counters,
            metrics=RequestMetrics(TLS, counters),
            scheduler=SendScheduler(loop, BOUNDS.turn_bytes_max),
            limits=BOUNDS,
            app=cast("Any", SimpleNamespace()),
            on_transfer_failed=never,
            on_connection_failed=never,
        )


def test_settings_tell_the_bounds(context: Http2Context) -> None:
    """RFC 9113 section 6.5.2: how many streams, how large a head; the rest as it is by default."""
    settings = context.local_settings()
    assert settings[SettingCodes.MAX_CONCURRENT_STREAMS] == BOUNDS.streams_max
    assert settings[SettingCodes.MAX_HEADER_LIST_SIZE] == LIMITS.head_bytes_max
    assert settings[SettingCodes.INITIAL_WINDOW_SIZE] == 65_535
    assert settings[SettingCodes.ENABLE_PUSH] == 0
    assert context.local_settings() is not settings


def test_date_is_that_of_the_second(context: Http2Context) -> None:
    """The rendered Date field, the same object until the second changes."""
    context.set_second(784_111_777)
    date = context.date_h2
    assert date == literal(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
    context.set_second(784_111_777)
    assert context.date_h2 is date
    context.set_second(784_111_778)
    assert context.date_h2 == literal(b"date", b"Sun, 06 Nov 1994 08:49:38 GMT")


@pytest.mark.parametrize(
    ("idle_s", "idle_ticks"), [(0.0, 0), (2.0, Wheel.ticks(2.0)), (100.0, Wheel.ticks(60.0))]
)
def test_drain_shortens_the_idle_time(
    context: Http2Context, idle_s: float, idle_ticks: int
) -> None:
    """Never beyond the idle timeout, and none at all where the bound is zero."""
    assert not context.draining
    context.drain(idle_s)
    assert context.draining
    assert context.idle_ticks == idle_ticks


def test_progress_is_sampled_within_its_timeout(context: Http2Context) -> None:
    """`STALL_SAMPLES` looks make one write-progress timeout."""
    assert context.stall_ticks == Wheel.ticks(BOUNDS.write_progress_s / STALL_SAMPLES)


def test_bodies_are_of_this_listener(context: Http2Context) -> None:
    """Its connections count into one bound."""
    segments = (SimpleNamespace(count=1),) * 3
    response: Any = SimpleNamespace(segments=segments)
    assert context.bodies.has_room_for(response)
    context.bodies.segments_held = SEGMENTS_HELD_MAX - 2
    assert not context.bodies.has_room_for(response)
