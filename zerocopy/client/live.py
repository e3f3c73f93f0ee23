"""A live stream as an iterator.

Owns the connection, by `websockets`, and waits; `follow` says what to do next.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from zerocopy.client.errors import ConnectionFailed, Reset
from zerocopy.client.follow import Follow, missing_websockets
from zerocopy.client.stop import Stop

if TYPE_CHECKING:
    from types import TracebackType

    from zerocopy.client.frame import Frame
    from zerocopy.client.options import Options


class Live:
    """Frames of records as they are appended: iterate, and close it or use it in `with`.

    It is one stream: to be used by one thread at a time, but for `close`.

    Attributes:
        cursor: where the stream stands, behind the last frame that was given.

    Raises:
        Reset: by `next`, if the day at the cursor was replaced; iterate on to continue.
        NotFound, Unauthorized: by `next`, if the series or the key is gone at a reconnect.
    """

    def __init__(self, options: Options, target: str, cursor: str | None) -> None:
        self._follow = Follow(options, target, cursor)
        self._stop = Stop()
        self._connection: Any = None
        self._held = ExitStack()  # of the connection
        self._pending: Frame | Reset | None = None
        try:
            while not self._follow.is_open:  # until the server tells where the stream begins
                self._pending = self._step()
        except Reset as reset:  # for `next`: who is told now has no iterator to go on with
            self._pending = reset

    @property
    def cursor(self) -> str | None:
        """Where the stream stands."""
        return self._follow.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame, self._pending = self._pending, None
        if isinstance(frame, Reset):
            raise frame
        try:
            while frame is None:
                frame = self._step()
        except ConnectionFailed:
            if self._stop.is_set:
                raise StopIteration from None
            raise
        return frame

    def close(self) -> None:
        """End the stream, from any thread; an iterator that waits ends."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _step(self) -> Frame | None:
        """Connect, or wait for a message: the frame of one that has records."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - when it is used

        self._stop.check()
        if self._connection is None:
            self._connect()
            return None
        try:
            message = self._connection.recv()
        except ConnectionClosed as error:
            self._connection = None
            self._held.close()
            self._stop.check()
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (None, "")
            self._stop.pause(self._follow.ended(code, reason))
            return None
        return self._follow.take(message)

    def _connect(self) -> None:
        try:
            from websockets.exceptions import InvalidHandshake  # noqa: PLC0415
            from websockets.sync.client import connect  # noqa: PLC0415
        except ImportError:
            raise missing_websockets() from None
        try:
            connecting = connect(
                self._follow.url, address=self._follow.address, **self._follow.arguments
            )
            self._connection = self._held.enter_context(connecting)
        except (OSError, EOFError, ValueError, InvalidHandshake) as error:
            self._stop.pause(self._follow.refused(error))
            return
        if self._stop.is_set:  # closed meanwhile, by another thread
            self._connection.close()
