"""Heads that are known but for their CF-Ray: which they are, and that no other is taken for one."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.transport.http1.bench import PARSER_LIMITS
from tests.transport.http1.rays import (
    HEAD,
    HIDDEN,
    HOSTILE,
    LINE,
    OTHER_LINE,
    OTHER_RAY,
    RAY,
    REST,
    known,
    meaning,
    parse,
    recognize,
)
from zerocopy.transport.http1.ray import remembered


@pytest.mark.parametrize(
    "rest",
    [
        REST,
        REST.replace(b"GET", b"HEAD"),
        REST.replace(b"Host: t", b'Host: t\r\nIf-None-Match: "x"'),
        REST.replace(b"1.1", b"1.0").replace(b"A: b", b"Connection: keep-alive"),
        REST.replace(b"A: b", b"Content-Length: 0"),
        REST.replace(b"A: b", b"Connection: Upgrade\r\nUpgrade: h2c"),
        REST.replace(b"/a?b", b"http://t/a"),
    ],
)
def test_any_other_ray_is_the_same_request_with_its_own_ray(rest: bytes) -> None:
    """Recognized or read, the message is the same: method, target, fields, persistence and ray."""
    head = rest.replace(b"\r\nX:", LINE + b"\r\nX:")
    kept = known(head)
    assert list(kept) == [rest]
    assert b"cf-ray" not in dict(kept[rest].request.fields)
    for data in (head, head.replace(RAY, OTHER_RAY)):
        found, read = recognize(kept, data), parse(data)
        assert found is not None
        assert read is not None
        assert meaning(found) == meaning(read)


def test_line_is_found_behind_each_line_of_the_head_section_and_nowhere_else() -> None:
    """Put in at every byte of a known rest, and behind it: known exactly where it is a field."""
    kept, places = known(HEAD), set()
    for at in range(len(REST) + 1):
        data = REST[:at] + OTHER_LINE + REST[at:]
        found, read = recognize(kept, data), parse(data)
        if found is not None:
            assert read is not None, data
            assert meaning(found) == meaning(read), data
            places.add(at)
    ends = [at for at in range(len(REST) - 2) if REST.startswith(b"\r\n", at)]
    assert sorted(places) == ends


def test_second_line_anywhere_is_never_known() -> None:
    """Two fields of the name are the reader's to judge, whichever of them is looked at first."""
    kept = known(HEAD)
    for line in (LINE, OTHER_LINE, b"\r\ncf-ray: x"):
        for first, second in combinations(range(len(REST) + 1), 2):
            data = REST[:first] + OTHER_LINE + REST[first:second] + line + REST[second:]
            assert recognize(kept, data) is None, data


@pytest.mark.parametrize("case", HOSTILE)
def test_anything_else_goes_to_the_reader(case: str) -> None:
    """However near it comes to a head that is known, with an empty line before it or without."""
    with_content = HEAD.replace(b"A: b", b"Content-Length: 30") + LINE
    kept = known(HEAD, b"\r\n" + HEAD, HEAD + b"\r\n", with_content, HEAD + HIDDEN)
    assert list(kept) == [REST]
    assert recognize(kept, HOSTILE[case]) is None


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_remembered_of_anything_else_makes_nothing_known_that_is_not_read_so(
    case: str,
) -> None:
    """A head that comes first: wherever the line stands afterwards, the reader has to agree."""
    kept = known(HOSTILE[case])
    for rest in {*kept, REST}:
        for at in range(len(rest) + 1):
            data = rest[:at] + LINE + rest[at:]
            found, read = recognize(kept, data), parse(data)
            assert found is None or (read is not None and meaning(found) == meaning(read)), data


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n" + HEAD,
        HEAD + b"\r\n",
        HEAD.replace(b"Cf-Ray", b"CF-RAY"),
        HEAD.replace(RAY, RAY[:16]),
        HEAD.replace(b"A: b", b"cf-ray: " + RAY),
        HEAD.replace(b"A: b", b"Content-Length: 5") + b"hello",
        REST.replace(b"A: b", b"cf-ray: " + RAY + b"\r\nContent-Length: 32") + LINE + b"\r\n",
        REST.replace(b"A: b", b"Content-Length: 32") + LINE + b"\r\n",
        REST.replace(b"A: b", b"cf-ray: " + RAY + b"\r\nContent-Length: 30") + LINE,
        REST,
    ],
)
def test_head_that_its_rest_would_not_name_is_not_remembered_by_it(head: bytes) -> None:
    """All of these are requests; but more than one whole head, or no one line of that form."""
    message = parse(head)
    assert message is not None
    assert remembered(head, message) is None


def test_bounds_of_the_reader_hold_for_what_is_known() -> None:
    """The line counts among the fields and bytes: what is known keeps the bounds, as it was read.

    A head at a bound is known again; one field or byte more is another head, which was never read.
    """
    lines = [b"X-%d: y" % number for number in range(PARSER_LIMITS.fields_max)]
    most = b"\r\n".join([b"GET / HTTP/1.1", b"Host: t", *lines[2:], b"Cf-Ray: " + RAY, b"", b""])
    too_many = most.replace(b"Host: t", b"Host: t\r\nX: y")
    assert parse(most) is not None
    assert parse(too_many) is None
    kept = known(most, too_many)
    found = recognize(kept, most.replace(RAY, OTHER_RAY))
    assert found is not None
    assert len(found.request.fields) == PARSER_LIMITS.fields_max
    assert recognize(kept, too_many) is None
    assert recognize(kept, too_many.replace(RAY, OTHER_RAY)) is None
