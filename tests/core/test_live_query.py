"""The query of /api/live: its own parameters, and the field of a browser that asks again."""

from __future__ import annotations

import pytest

from tests.table import each
from zerocopy.core.errors import BadRequestError
from zerocopy.core.query import LiveQuery, parse_live_query

LIVE = b"symbol=A&type=MD&columns=time,price"


def test_live_query_has_defaults_and_its_own_parameters() -> None:
    """Now, from a cursor, or from a second; and a bound on the pace."""
    plain = parse_live_query(LIVE, columns_max=4)
    assert plain == LiveQuery("coinbase", "A", "MD", ("time", "price"))
    asked = LIVE + b"&exchange=x&from=20250131.7&start=5&max_rate=0.5&format=csv"
    found = parse_live_query(asked, columns_max=4)
    assert (found.exchange, str(found.cursor), found.start_s) == ("x", "20250131.7", 5)
    assert found.max_rate == 0.5


def test_live_query_last_event_id_wins_over_from() -> None:
    """A browser asks again with the same URL; an empty field is none."""
    asked = LIVE + b"&from=20250131.7"
    for field, cursor in ((b"20250201.0", "20250201.0"), (b"", "20250131.7"), (None, "20250131.7")):
        found = parse_live_query(asked, columns_max=4, last_event_id=field)
        assert str(found.cursor) == cursor


@each(
    ("more", "field", "named"),
    [
        (b"&from=7", None, "parameter from"),
        (b"&from=", b"20250201.0", "parameter from"),
        (b"&start=x", None, "parameter start"),
        (b"&max_rate=0", None, "parameter max_rate"),
        (b"&max_rate=0.01", None, "parameter max_rate"),
        (b"&max_rate=1001", None, "parameter max_rate"),
        (b"&max_rate=1e3", None, "parameter max_rate"),
        (b"&max_rate=-1", None, "parameter max_rate"),
        (b"&max_rate=nan", None, "parameter max_rate"),
        (b"&symbol=B", None, "parameter symbol"),
        (b"", b"7", "Last-Event-ID"),
        (b"", b"\xff", "Last-Event-ID"),
    ],
)
def test_live_query_refuses_what_is_malformed(more: bytes, field: bytes | None, named: str) -> None:
    """The detail names the parameter or the field, whichever would have won."""
    with pytest.raises(BadRequestError, match=f"^{named}"):
        parse_live_query(LIVE + more, columns_max=4, last_event_id=field)


@pytest.mark.parametrize("missing", ["symbol", "type", "columns"])
def test_live_query_requires_what_names_the_records(missing: str) -> None:
    """As in /api/data, but for the time."""
    pairs = [pair for pair in LIVE.decode().split("&") if not pair.startswith(missing)]
    with pytest.raises(BadRequestError, match=f"^parameter {missing}: is missing"):
        parse_live_query("&".join(pairs).encode(), columns_max=4)
