"""Servers that know heads but for their CF-Ray, under any heads: they answer as one that reads all.

What comes are heads that are close to each other: of a few lines, with rays in them, damaged. Each
is recognized or read, and remembered, as on a connection between two messages.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import requests
from tests.transport.http1.rays import LINE, OTHER_LINE, known, meaning, parse, recognize

RUNS = 3_000
HEADS = 12
"""Runs of the seeded test, and heads of each."""

_BEGINNINGS = [b"GET / HTTP/1.1\r\nHost: t", b"HEAD /a HTTP/1.0\r\nConnection: keep-alive"]
_RAYS = [LINE, LINE, OTHER_LINE, OTHER_LINE]
_NEARLY_RAYS = [
    *(LINE.lower(), LINE.upper(), LINE[:-1], LINE + b"x", LINE + b" ", LINE[:-4], LINE[1:]),
    *(b"\r\n" + LINE, LINE + b"\r\n", LINE.replace(b": ", b":"), b"\r\nCf-Ray: x"),
]
_FIELDS = [b"\r\n" + field for field in requests.FIELDS if len(field) < 60]
_ENDS = [b"\r\n\r\n"] * 6 + [b"\r\n", b"\n\n", b"\r\n\r\nhello", b"\r\n\r\n" + LINE + b"\r\n\r\n"]
_PARTS = st.one_of(
    *(st.sampled_from(parts) for parts in (_RAYS, _RAYS, _NEARLY_RAYS, _FIELDS)),
    st.sampled_from([b"\r\nA: b", b"\r\nX: y"]),
    st.sampled_from(requests.BYTES),
    st.binary(max_size=3),
)
_HEADS = st.builds(
    lambda before, beginning, parts, end: before + beginning + b"".join(parts) + end,
    st.sampled_from([b""] * 8 + [b"\r\n", LINE + b"\r\n", LINE, b"\n"]),
    st.sampled_from(_BEGINNINGS),
    st.lists(_PARTS, max_size=5),
    st.sampled_from(_ENDS),
)


def judge(heads: list[bytes]) -> Counter[str]:
    """Take in the heads one after the other; how many were recognized and how many were read."""
    kept, seen = known(), Counter[str]()
    for head in heads:
        found, read = recognize(kept, head), parse(head)
        if found is not None:
            assert read is not None, (heads, head)
            assert meaning(found) == meaning(read), (heads, head)
        seen["recognized" if found is not None else "read" if read is not None else "refused"] += 1
        kept |= known(head)
    return seen


@settings(deadline=None)
@given(st.lists(_HEADS, min_size=2, max_size=8))
def test_any_heads_mean_what_a_fresh_reader_finds(heads: list[bytes]) -> None:
    """Whatever is recognized is one request to the reader as well: the same one, with its ray."""
    judge(heads)


@settings(deadline=None)
@given(_HEADS, st.data())
def test_any_head_with_a_line_moved_means_what_a_fresh_reader_finds(
    head: bytes, data: st.DataObject
) -> None:
    """A head is known; then its line, or another, stands anywhere else in the same bytes."""
    kept = known(head)
    rest = data.draw(st.sampled_from([*kept, head, head.replace(LINE, b"", 1)]))
    at = data.draw(st.integers(0, len(rest)))
    line = data.draw(st.sampled_from([*_RAYS, *_NEARLY_RAYS]))
    moved = rest[:at] + line + rest[at:]
    found, read = recognize(kept, moved), parse(moved)
    assert found is None or (read is not None and meaning(found) == meaning(read)), (head, moved)


def test_thousands_of_heads_from_seeds_are_read_as_ever_and_many_are_recognized() -> None:
    """Fresh ones, known rests with a line put in, most often before a CRLF, and damage to both."""
    seen = Counter[str]()
    for seed in range(RUNS):
        random, kept = Random(seed), known()
        heads = list[bytes]()
        for _ in range(HEADS):
            head = fresh(random)
            if kept and random.random() < 0.7:
                head = placed(random, random.choice(list(kept)))
            if random.random() < 0.2:
                head = random.choice(requests.MUTATIONS)(random, head)
            heads.append(head)
            kept |= known(head)
        seen += judge(heads)
    assert seen.keys() == {"recognized", "read", "refused"}
    assert min(seen.values()) > RUNS, seen


def fresh(random: Random) -> bytes:
    """A request with a line, perhaps with another field of the name, an empty line or content."""
    lines = [requests.valid(random).split(b"\r\n")[0], b"Host: t", LINE[2:]]
    lines += random.choices([b"A: b", b"X: y", b"Content-Length: 4"], k=random.randint(0, 2))
    lines += random.choices([[], [LINE.lower()[2:-3] + b"FRA"]], [9, 1])[0]
    ends = [b"\r\n\r\n", b"\r\n\r\na\r\nb", b"\r\n\r\n\r\n"]
    return random.choices([b"", b"\r\n"], [9, 1])[0] + b"\r\n".join(lines) + random.choice(ends)


def placed(random: Random, rest: bytes) -> bytes:
    """A line put into a rest."""
    breaks = [at for at in range(len(rest) + 1) if rest.startswith(b"\r\n", at)]
    at = random.choice(breaks) if random.random() < 0.9 else random.randint(0, len(rest))
    return rest[:at] + random.choice([LINE, OTHER_LINE]) + rest[at:]
