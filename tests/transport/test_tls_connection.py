"""A TLS connection whose transport is gone already when its time is looked at."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from types import SimpleNamespace

from zerocopy.transport.deadlines import NEVER, Wheel
from zerocopy.transport.tls_connection import TlsConnection


class LostWriter:
    """A stream writer after connection_lost: uvloop knows no socket any more."""

    def __init__(self) -> None:
        self.aborts: list[bool] = []
        self.transport = SimpleNamespace(
            get_write_buffer_size=int, abort=partial(self.aborts.append, True)
        )

    def close(self) -> None:
        """It is closed already."""

    async def wait_closed(self) -> None:
        """It is."""

    def get_extra_info(self, _name: str) -> None:
        """Nothing is known."""


def lost_connection(writer: LostWriter, failures: list[BaseException]) -> TlsConnection:
    """A connection that was lost, and that its server has not forgotten yet."""
    server = SimpleNamespace(
        wheel=Wheel(),
        stall_ticks=1,
        header_ticks=100,
        idle_ticks=100,
        on_connection_failed=failures.append,
    )
    return TlsConnection(
        None,
        None,
        None,
        None,
        {},
        SimpleNamespace(exception=lambda: None),
        writer,
        server=server,  # type: ignore[arg-type]
        is_refused=False,
    )


def test_lost_connection_is_no_failure() -> None:
    """Between its loss and its end the wheel may come round: nothing is told, nothing is closed."""
    writer, failures = LostWriter(), list[BaseException]()
    connection = lost_connection(writer, failures)
    for _ in range(8):
        connection.on_deadline()
    assert failures == []
    assert writer.aborts == []


def test_lost_connection_can_be_reset() -> None:
    """There is no socket to prepare; the transport is aborted all the same."""
    writer = LostWriter()
    lost_connection(writer, []).reset()
    assert writer.aborts == [True]


def test_connection_that_is_over_holds_nothing() -> None:
    """Its writer, and with it what was queued, goes with the last reference, not with a cycle."""
    writer = LostWriter()
    failures: list[BaseException] = []
    connection = lost_connection(writer, failures)
    gone = weakref.ref(writer)
    gc.disable()
    try:
        asyncio.run(connection.run())
        del writer
        assert gone() is None
    finally:
        gc.enable()
    assert failures == []
    assert connection.deadline == NEVER
