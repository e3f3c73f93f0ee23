"""Bodies that break, change or lie: a frame is of one state of the data, or there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.client.liar import (
    BODY,
    OTHER,
    PRICES,
    TAG,
    TIMES,
    WHOLE,
    Liar,
    Say,
    chunked,
    cut,
    honest,
    part,
    response,
)
from zerocopy.client import (
    ChangedData,
    Client,
    ConnectionFailed,
    Frame,
    Timeout,
    UnexpectedAnswer,
)
from zerocopy.client.fetch import (
    ATTEMPTS_MAX,
    FIRST_ATTEMPTS_MAX,
    RESTARTS_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.liar import Ending, Head

LINE_NBYTES = BODY.index(b"\n") + 1
KEY = "s3cr3t-key"


def get(liar: Liar, *, timeout: float = 20) -> Frame:
    """What a client makes of it."""
    with Client(liar.url, key=KEY, timeout=timeout) as client:
        return client.data("X", "time,price", type="MD")


def is_right(frame: Frame, plus: int = 0) -> bool:
    """Whether it is the one that was sent."""
    return np.array_equal(frame["time"], TIMES) and np.array_equal(frame["price"], PRICES + plus)


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("at", [0, 1, LINE_NBYTES, LINE_NBYTES + 4, len(BODY) // 3, len(BODY) - 1])
@pytest.mark.usefixtures("pauses")
def test_a_body_that_breaks_is_resumed_where_it_broke(ending: Ending, at: int) -> None:
    """By Range and If-Range with its ETag; amid the header line it begins anew."""
    with Liar(Say(cut(at), ending), honest) as liar:
        assert is_right(get(liar))
    resumed = liar.heads[1]
    assert resumed.fields.get("if-range") == (TAG if resumed.first else None)
    assert resumed.first <= at
    assert resumed.first or at <= LINE_NBYTES
    assert resumed.first == at or at <= LINE_NBYTES or ending == "reset", "what came is kept"


@pytest.mark.usefixtures("pauses")
def test_every_new_byte_renews_the_patience() -> None:
    """A connection that always breaks after some more bytes delivers in the end."""
    step = len(BODY) // (2 * ATTEMPTS_MAX)
    line = LINE_NBYTES + step

    def some(head: Head) -> Say:
        return Say(cut(step if head.first else line, honest(head).data), "close")

    with Liar(some) as liar:
        assert is_right(get(liar))
    assert len(liar.heads) > ATTEMPTS_MAX


@pytest.mark.usefixtures("pauses")
def test_a_body_that_breaks_at_the_same_byte_again_and_again_is_given_up() -> None:
    """As often as it may."""
    with Liar(Say(cut(1_000), "close"), lambda _: Say(b"", "close")) as liar:
        with pytest.raises(ConnectionFailed):
            get(liar)
        assert len(liar.heads) == ATTEMPTS_MAX


@pytest.mark.usefixtures("pauses")
def test_data_that_changed_is_fetched_anew() -> None:
    """A 200 instead of the part: nothing of the first state is kept."""
    other = response(OTHER, ETag='"two"')
    with Liar(Say(cut(len(BODY) // 2), "close"), Say(other)) as liar:
        assert is_right(get(liar), plus=1)
    assert liar.heads[1].first


@pytest.mark.usefixtures("pauses")
def test_data_that_changes_each_time_is_told() -> None:
    """After some attempts, each broken amid another state."""
    count = 0

    def another(_: Head) -> Say:
        nonlocal count
        count += 1
        return Say(cut(len(BODY) // 2, response(BODY, ETag=f'"{count}"')), "close")

    with Liar(another) as liar, pytest.raises(ChangedData, match="closed"):
        get(liar)
    assert count == RESTARTS_MAX + 2


@pytest.mark.usefixtures("pauses")
def test_a_weak_tag_resumes_nothing() -> None:
    """RFC 9110, 13.1.5: If-Range compares strongly; the body begins anew."""
    weak = response(BODY, ETag="W/" + TAG)
    with Liar(Say(cut(len(BODY) // 2, weak), "close"), Say(weak)) as liar:
        assert is_right(get(liar))
    assert "range" not in liar.heads[1].fields


def shifted(head: Head) -> bytes:
    """A part that begins one byte later than was asked."""
    return part(BODY, head.first + 1)


def mislabelled(head: Head) -> bytes:
    """A part that says it is another."""
    right = f"bytes {head.first}-".encode()
    return part(BODY, head.first).replace(right, f"bytes {head.first + 4}-".encode(), 1)


def unlabelled(head: Head) -> bytes:
    """A part that does not say where it begins."""
    return response(BODY[head.first :], 206, ETag=TAG)


def of_another(head: Head) -> bytes:
    """A part with another ETag than was asked for."""
    return part(BODY, head.first, '"two"')


def of_a_longer(head: Head) -> bytes:
    """A part of something longer."""
    longer = f"{len(BODY) - 1}/{len(BODY) + 8}".encode()
    return part(BODY, head.first).replace(f"{len(BODY) - 1}/{len(BODY)}".encode(), longer, 1)


def of_a_shorter(head: Head) -> bytes:
    """The rest of something shorter, which its header line does not say."""
    return part(BODY[:-8], head.first)


@pytest.mark.parametrize(
    "lie", [shifted, mislabelled, unlabelled, of_another, of_a_longer, of_a_shorter]
)
@pytest.mark.usefixtures("pauses")
def test_a_part_that_does_not_fit_is_refused(lie: Callable[[Head], bytes]) -> None:
    """Two states are never joined."""
    with (
        Liar(Say(cut(len(BODY) // 2), "close"), lambda head: Say(lie(head))) as liar,
        pytest.raises(UnexpectedAnswer),
    ):
        get(liar)
    assert len(liar.heads) == 2


def test_a_part_that_nobody_asked_for_is_refused() -> None:
    """A 206 to a request without Range."""
    with Liar(Say(part(BODY, 0))) as liar, pytest.raises(UnexpectedAnswer):
        get(liar)


@pytest.mark.parametrize(
    "body",
    [
        BODY[:-4],
        BODY + b"more",
        BODY.replace(b'"record_size":4', b'"record_size":8', 1),
        BODY.replace(b'"num_records":40000', b'"num_records":39999', 1),
        BODY.replace(b'"dtype":"<u4"', b'"dtype":"|O8"', 1),
        BODY.replace(b'"dtype":"<u4"', b'"dtype":">u4"', 1),
        b"<html>hello</html>",
        b"",
        b"[]\n",
        b'{"columns":[]}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        BODY.replace(b":40000,", b":4e4,"),
        BODY.replace(b":40000,", b":-1,").replace(b":160000,", b":-4,"),
        BODY.replace(b":40000,", b":%d," % 10**30).replace(b":160000,", b":%d," % (4 * 10**30)),
    ],
    ids=[
        "short",
        "long",
        "wide",
        "uneven",
        "objects",
        "big-endian",
        "page",
        "none",
        "[]",
        "{}",
        "ff",
        "deep",
        "4e4",
        "-1",
        "huge",
    ],
)
def test_a_body_that_contradicts_its_header_line_is_refused(body: bytes) -> None:
    """Or that has none; chunked alike, where no length tells before."""
    for say in (Say(response(body)), Say(chunked(body))):
        with Liar(say) as liar, pytest.raises(UnexpectedAnswer):
            get(liar)
        assert len(liar.heads) == 1


def test_a_header_line_that_promises_too_much_takes_no_memory() -> None:
    """What it says is compared with Content-Length before so much is allocated."""
    count = 1 << 50
    told = BODY.replace(b":40000,", b":%d," % count).replace(b":160000,", b":%d," % (4 * count))
    with Liar(Say(response(told))) as liar, pytest.raises(UnexpectedAnswer, match="Content-Length"):
        get(liar)


def test_an_empty_interval_has_no_record_of_the_last_second() -> None:
    """It is asked for as that second, for the columns and their dtypes."""
    with Liar(Say(WHOLE)) as liar, Client(liar.url) as client:
        assert len(client.data("X", "time,price", type="MD", start=5, end=5)) == 0
        assert "start=4294967295&end=4294967295" in liar.heads[0].target


def test_a_body_by_chunks_is_read_as_any() -> None:
    """As a proxy may send it; the connection is used again."""
    with Liar(Say(chunked(BODY))) as liar, Client(liar.url) as client:
        for _ in range(2):
            assert is_right(client.data("X", "time,price", type="MD"))
        assert liar.connections == 1


@pytest.mark.usefixtures("pauses")
def test_chunks_that_end_early_are_resumed() -> None:
    """Without the last chunk a body is not whole."""
    early = chunked(BODY[:90_000], is_whole=False, ETag=TAG)
    with Liar(Say(early, "close"), honest) as liar:
        assert is_right(get(liar))
    assert liar.heads[1].first


@pytest.mark.usefixtures("pauses")
def test_a_head_that_breaks_off_is_asked_for_again() -> None:
    """It is no answer without a length; what had come before is kept."""
    head = WHOLE[: WHOLE.index(b"Content-Length")]
    with Liar(Say(cut(1_000), "close"), Say(head, "close"), honest) as liar:
        assert is_right(get(liar))
    assert liar.heads[2].first


@pytest.mark.parametrize("chunks", [0, 1, 2])
@pytest.mark.usefixtures("pauses")
def test_chunks_that_end_amid_the_header_line_are_asked_for_again(chunks: int) -> None:
    """Behind a whole chunk, and before the first."""
    early = b"".join(b"1\r\n%c\r\n" % BODY[at] for at in range(chunks))
    say = Say(response(b"", Content_Length="", Transfer_Encoding="chunked") + early, "close")
    with Liar(say, honest) as liar:
        assert is_right(get(liar))


@pytest.mark.usefixtures("pauses")
def test_a_body_that_breaks_behind_its_last_byte_is_fetched_anew() -> None:
    """The last chunk is missing: the rest that is asked for is none, which is a 416."""

    def no_rest(head: Head) -> Say:
        assert head.first == len(BODY)
        return Say(response(b"", 416, Content_Range=f"bytes */{len(BODY)}"))

    early = chunked(BODY, is_whole=False, ETag=TAG)
    with Liar(Say(early, "close"), no_rest, honest) as liar:
        assert is_right(get(liar))
    assert "range" not in liar.heads[2].fields


def test_a_body_without_a_length_is_read_to_the_length_of_its_header_line() -> None:
    """HTTP/1.0 and some proxies end it by closing."""
    with Liar(Say(response(BODY, Content_Length="", Connection="close"), "close")) as liar:
        assert is_right(get(liar))


@pytest.mark.usefixtures("pauses")
def test_a_server_that_says_nothing_is_a_timeout() -> None:
    """Before the head, and amid the body."""
    for say in (Say(b"", "hold"), Say(cut(1_000), "hold")):
        with Liar(say) as liar, pytest.raises(Timeout, match=r"0\.05 s"):
            get(liar, timeout=0.05)
        assert len(liar.heads) > 1


def test_a_slow_body_is_no_timeout() -> None:
    """`timeout` is of silence, not of the transfer."""
    with Liar(Say(WHOLE, pieces=30, pause_s=0.02)) as liar:
        assert is_right(get(liar, timeout=0.5))  # were it of the transfer, none would end


def test_a_connection_that_the_server_closed_while_idle_is_not_used(pauses: list[float]) -> None:
    """Seen before the request or as it leaves, it costs no attempt and no wait."""
    with Liar(Say(WHOLE, "close")) as liar, Client(liar.url) as client:
        for requests in (1, 2, 3):
            assert is_right(client.data("X", "time,price", type="MD"))
            liar.wait_until_ended(requests)
        assert liar.connections == len(liar.heads) == 3
    assert pauses == []


def test_an_address_where_nothing_listens_is_given_up_soon(pauses: list[float]) -> None:
    """It is likely wrong."""
    with Liar() as gone:
        pass
    with pytest.raises(ConnectionFailed, match="is the server running"), Client(gone.url) as client:
        client.symbols()
    assert len(pauses) == FIRST_ATTEMPTS_MAX - 1
