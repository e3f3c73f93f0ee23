"""What a recorder says by Redis when it has appended: a hint to look, which nobody has to believe.

Owns the two channels and the form of a message. A server looks at the series itself, so a message
that is lost, doubled or forged costs a look, or the time until the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from zerocopy.core.cursor import day_digits
from zerocopy.core.layout import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable

FILES: Final = "zerocopy:live:files"
"""The channel of who appends to day files."""

OBJECTS: Final = "zerocopy:live:objects"
"""The channel of who puts days into an object store."""

MESSAGE_BYTES_MAX = 65_536


class Announced(NamedTuple):
    """A series that has changed; its names are those of the layout."""

    exchange: str
    symbol: str
    type: str


def announcement(series: tuple[str, str, str], day: int, columns: Iterable[str]) -> bytes:
    """The message that some columns of a day have changed.

    Example:
        >>> announcement(("coinbase", "BTC-USD", "MD"), 20119, ["price"])
        b'{"series":["coinbase","BTC-USD","MD"],"day":"20250131","columns":["price"]}'
    """
    return orjson.dumps({"series": [*series], "day": day_digits(day), "columns": [*columns]})


def parse_announcement(message: bytes) -> Announced | None:
    """The series that a message names; None if it names none.

    Example:
        >>> parse_announcement(b'{"series": ["coinbase", "BTC-USD", "MD"]}')
        Announced(exchange='coinbase', symbol='BTC-USD', type='MD')
    """
    if len(message) > MESSAGE_BYTES_MAX:
        return None
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    series = found.get("series") if isinstance(found, dict) else None
    if not isinstance(series, list) or len(series) != len(Announced._fields):
        return None
    if not all(isinstance(name, str) and is_name(name) for name in series):
        return None
    return Announced(*series)
