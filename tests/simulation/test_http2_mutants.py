"""The simulator finds bugs: each test plants one in the server and waits for a seed to show it.

A simulator that finds nothing proves nothing. Each bug is one that the code's own checks guard
against, or that a change of it could bring; and each must be found within some seeds.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.http2_batch import failures_of, http2
from zerocopy.storage.dayfile import DayFile
from zerocopy.storage.proof import Proof
from zerocopy.transport.http2 import frames as http2_frames
from zerocopy.transport.http2 import streams as http2_streams
from zerocopy.transport.http2.connection import Http2Connection
from zerocopy.transport.http2.frames import FrameBuffer
from zerocopy.transport.http2.head import render_head
from zerocopy.transport.http2.lane import Lane
from zerocopy.transport.http2.outbox import Outbox
from zerocopy.transport.http2.streams import DataStreams
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.http.messages import Request, Response
    from zerocopy.transport.channel import Buffer
    from zerocopy.transport.http2.head import Answer
    from zerocopy.transport.http2.lane import Proved, Waiting

SEEDS_MAX = 400
AT_ONCE = 40
WHOLE_BYTES = 100


def planted(seed: int, root: str) -> str:
    """One run in a child; where the bug ends the process, the story says so, and no stack."""
    faulthandler.disable()
    return http2(seed, root)


def found(first: int = 0) -> str:
    """The story of the first seed from `first` on that shows the bug, or nothing.

    Others say a `first` that is close to one: a seed is some 40 ms.
    """
    for begin in range(first, first + SEEDS_MAX, AT_ONCE):
        if stories := failures_of(planted, begin, AT_ONCE, stories_max=1):
            return stories[0]
    return ""


def plant(patch: pytest.MonkeyPatch, owner: object, name: str, bug: object) -> None:
    """Put a bug in the place of a function or a number."""
    patch.setattr(owner, name, bug)


def test_finds_a_window_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATA beyond the stream's window: the client's flow control tells."""
    honest = FrameBuffer.fill

    def fill(self: FrameBuffer, *arguments: Any, most: int, **others: Any) -> Any:
        return honest(self, *arguments, most=most + 1, **others)

    plant(monkeypatch, FrameBuffer, "fill", fill)
    assert "FlowControl" in found()


def test_finds_a_window_that_the_lane_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane does not take what it sent from the connection's window."""
    honest = Lane.answer

    def answer(self: Lane, requests: Sequence[Waiting], proved: Proved) -> tuple[int, Buffer]:
        before = self._connection.outbound_flow_control_window
        answered = honest(self, requests, proved)
        self._connection.outbound_flow_control_window = before
        return answered

    plant(monkeypatch, Lane, "answer", answer)
    assert found(10)


def test_finds_files_that_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept descriptor is trusted: changed bytes, or SIGBUS beyond the end of a mapping."""
    plant(monkeypatch, DayFile, "check_kept", lambda _self, _status: None)
    assert found(620)


def test_finds_a_missing_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last DATA frame of a body does not end its stream."""
    plant(monkeypatch, http2_frames, "END_STREAM", 0)
    assert "no end of" in found()


def test_finds_answers_kept_from_read_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lane has proved once is believed for ever: a changed file does not show."""
    believed: dict[int, Answer] = {}
    honest = Lane._prove

    def prove(self: Lane, block: bytes, request: Request, proved: Proved) -> Answer | None:
        answer = believed.get(id(request)) or honest(self, block, request, proved)
        if answer is not None:
            proved[id(request)] = believed[id(request)] = answer
        return answer

    plant(monkeypatch, Lane, "_prove", prove)
    assert "is none of" in found(70)


def test_finds_a_position_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second slice of a segment begins a byte late."""
    honest = DayFile.scatter

    def wrong(self: DayFile, offset: int, targets: Sequence[memoryview]) -> None:
        honest(self, offset + (offset > 0 and sum(map(len, targets)) < WHOLE_BYTES), targets)

    plant(monkeypatch, DayFile, "scatter", wrong)
    assert found()


def test_finds_segments_that_stay_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is reset does not give back what `segments_held` has counted for it."""
    honest = DataStreams._close_stream

    async def close(self: DataStreams, stream_id: int) -> None:
        body = self._bodies.get(stream_id)
        await honest(self, stream_id)
        if body is not None:
            self._context.bodies.segments_held += body.segment_count

    plant(monkeypatch, DataStreams, "_close_stream", close)
    assert "segments_held" in found()


def test_finds_a_stale_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan made before is never proved again: old bytes, or an abort without a change.

    The latter where files are opened anew for it, and are not those that were planned.
    """
    plant(monkeypatch, Proof, "holds", lambda _self: True)
    assert re.search("is none of|aborted without", found())


def test_finds_a_window_that_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """WINDOW_UPDATE does not set a blocked stream going again."""

    async def sleep(_self: DataStreams, _stream_id: int | None) -> None:
        """Do nothing."""

    plant(monkeypatch, DataStreams, "_window_updated", sleep)
    assert "no end of" in found()


def test_finds_a_reset_that_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A promise that cannot be kept is forgotten in silence."""

    async def abort(self: DataStreams, stream_id: int, _error: Exception) -> None:
        if stream_id in self._bodies:
            self._forget(stream_id)

    plant(monkeypatch, DataStreams, "_abort", abort)
    assert "no end of" in found()


def test_finds_a_table_size_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block after a change of HEADER_TABLE_SIZE begins like any other."""
    honest = Http2Connection._begin

    async def begin(self: Http2Connection, stream_id: int, *rest: Any) -> None:
        if self.connection.encoder.table_size_changes:
            self.connection.encoder.table_size_changes.clear()
        await honest(self, stream_id, *rest)

    plant(monkeypatch, Http2Connection, "_begin", begin)
    assert found()


def test_finds_an_answer_that_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that fails is replaced by zeros, to keep Content-Length."""
    honest = DayFile.scatter

    def scatter(self: DayFile, offset: int, targets: Sequence[memoryview]) -> None:
        try:
            honest(self, offset, targets)
        except Exception:  # noqa: BLE001 - the bug
            for target in targets:
                target[:] = bytes(len(target))

    plant(monkeypatch, DayFile, "scatter", scatter)
    assert found(20)


def test_finds_an_unsent_rest_that_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the channel did not take is forgotten: the next bytes are no retry of them."""
    honest = Outbox._send

    def send(self: Outbox, data: Buffer) -> int:
        honest(self, data)
        return 0

    plant(monkeypatch, Outbox, "_send", send)
    assert found()


def test_finds_a_retry_with_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a piece was begun, it comes again without its first byte."""
    honest = Outbox._send

    def send(self: Outbox, data: Buffer) -> int:
        return honest(self, data[1:] if self._channel.retry_bytes and len(data) > 1 else data)

    plant(monkeypatch, Outbox, "_send", send)
    assert "bad write retry" in found()


def test_finds_records_that_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decrypted and not received is left until the socket is readable again."""
    plant(monkeypatch, TlsChannel, "_look_again", lambda _self: None)
    assert found()


def test_finds_a_reset_behind_bytes_that_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last call of the reader, which got bytes, nobody receives any more."""
    honest = Http2Wire.on_deadline

    def on_deadline(self: Http2Wire) -> None:
        patch.setattr(self, "_on_readable", lambda: None)
        honest(self)
        patch.undo()

    with pytest.MonkeyPatch.context() as patch:
        plant(monkeypatch, Http2Wire, "on_deadline", on_deadline)
        assert "still running" in found()


def test_finds_a_bound_that_counts_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that tell another length than their bodies have."""
    honest = render_head

    def render(response: Response) -> bytes:
        block = honest(response)
        if response.segments:
            response.nbytes -= 1
        return block

    plant(monkeypatch, http2_streams, "render_head", render)
    assert found()


def test_finds_a_process_that_dies() -> None:
    """SIGBUS in a run is a story with its seed, and the seeds behind it are run all the same."""

    def deadly(seed: int, _root: str) -> None:
        if seed in {3, 5}:
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGBUS)

    stories = failures_of(deadly, 0, 8)
    assert [story.split(" failed")[0] for story in stories] == [
        f"seed {seed} ended its process by SIGBUS" for seed in (3, 5)
    ]
