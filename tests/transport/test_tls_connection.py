"""A TLS connection whose transport is gone already when its time is looked at."""

from __future__ import annotations

from types import SimpleNamespace

from zerocopy.transport.deadlines import Wheel
from zerocopy.transport.tls_connection import TlsConnection


class LostWriter:
    """A stream writer after connection_lost: uvloop knows no socket any more."""

    def __init__(self) -> None:
        self.aborts = 0
        self.transport = SimpleNamespace(get_write_buffer_size=int, abort=self._abort)

    def get_extra_info(self, _name: str) -> None:
        """Nothing is known."""

    def _abort(self) -> None:
        self.aborts += 1


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
        None,
        writer,
        server=server,  # type: ignore[arg-type]
    )


def test_lost_connection_is_no_failure() -> None:
    """Between its loss and its end the wheel may come round: nothing is told, nothing is closed."""
    writer, failures = LostWriter(), list[BaseException]()
    connection = lost_connection(writer, failures)
    for _ in range(8):
        connection.on_deadline()
    assert failures == []
    assert writer.aborts == 0


def test_lost_connection_can_be_reset() -> None:
    """There is no socket to prepare; the transport is aborted all the same."""
    writer = LostWriter()
    lost_connection(writer, []).reset()
    assert writer.aborts == 1
