"""The client's half of an HTTP/2 connection that carries live streams: see `Peer`.

Owns what h2 does not: a connection most of whose window others have used, and the end of a stream
through a window that has shrunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.windows import WindowManager

from tests.h2client import DATA
from tests.simulation.http2_wire import Peer

if TYPE_CHECKING:
    from tests.h2client import Frame


class NarrowPeer(Peer):
    """The strict client, with so much left of the connection's window as if others had the rest."""

    def __init__(self, window: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.h2._inbound_flow_control_window_manager = WindowManager(window)

    def window_of(self, stream_id: int) -> int:
        """What the server may still send on a stream that is not over; below 0 where it shrank."""
        return int(self._manager(stream_id).current_window_size)

    def _manager(self, stream_id: int) -> WindowManager:
        stream: Any = self.h2.streams[stream_id]
        manager: WindowManager = stream._inbound_window_manager
        return manager

    def _on_frame(self, frame: Frame, raw: bytes) -> None:
        """h2 takes no empty DATA through a window below 0, which RFC 9113 section 6.9 allows."""
        if (frame.kind, frame.length) != (DATA, 0) or frame.stream_id not in self.h2.streams:
            super()._on_frame(frame, raw)
            return
        manager = self._manager(frame.stream_id)
        size, manager.current_window_size = manager.current_window_size, 0
        super()._on_frame(frame, raw)
        manager.current_window_size = size
