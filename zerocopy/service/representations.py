"""The formats as the service sees them: which function, which file name.

Owns how each is made. Any format but `columns` is loaded when it is first asked for, in the thread
that plans: some need libraries that a server without such requests should not pay for.
"""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from zerocopy import __version__
from zerocopy.core.codings import IDENTITY
from zerocopy.core.errors import NotInstalledError
from zerocopy.core.query import COMPUTED, FORMATS, MEDIA_TYPES
from zerocopy.formats import columns

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Fields
    from zerocopy.core.plan import DayRecords, Encode, Plan, Represent
    from zerocopy.core.query import Query


_EXTENSIONS = {"arrow": "arrows", "json": "json", "csv": "csv", "parquet": "parquet"}
"""Of the file name a client is offered; none is where there is none."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@-]")
"""What a name may hold and a file name on another system, or a shell, had better not."""


@cache
def represent_by(name: str) -> Represent:
    """The function of a format; blocks when it is loaded."""
    if name == FORMATS[0]:
        return columns.represent
    represent: Represent = importlib.import_module(f"zerocopy.formats.{name}").represent
    return represent


class Encoder(NamedTuple):
    """A computed format: what writes it, and with which version of what, for the entity tag."""

    media_type: bytes
    encode: Encode
    tag: bytes


@cache
def encoder_of(name: str, coding: bytes = IDENTITY) -> Encoder:
    """The encoder of a computed format, or of any format in a coding; blocks when it is loaded.

    Raises:
        NotInstalledError: it needs a library that is not there.
    """
    if not coding:
        return _computed_encoder(name)
    from zerocopy.formats import coded  # noqa: PLC0415 - the first that is asked for loads zstd

    if name in COMPUTED:
        encoder = _computed_encoder(name)
    else:
        media_type = MEDIA_TYPES[name].encode()
        encoder = Encoder(media_type, coded.encode_as(represent_by(name)), name.encode())
    tag = b"%b, %b" % (encoder.tag, coded.VERSIONS[coding].encode())
    return Encoder(encoder.media_type, coded.encode_coded(encoder.encode, coding), tag)


def compressed(coding: bytes, content: bytes) -> bytes:
    """All of `content` in a coding; blocks."""
    from zerocopy.formats import coded  # noqa: PLC0415 - as above

    return coded.compressed(coding, content) if coding else content


def _computed_encoder(name: str) -> Encoder:
    try:
        found = importlib.import_module(f"zerocopy.formats.{name}")
    except ImportError as error:
        raise NotInstalledError(
            f"parameter format: {name} needs zerocopy[formats], which is not installed here"
        ) from error
    tag = f"{name} {__version__} {found.ENCODER}"
    return Encoder(found.MEDIA_TYPE, found.encode, tag.encode())


def written(name: str, plan: Plan) -> tuple[bytes, bytes]:
    """Media type and all bytes of a plan whose sources are in memory, in any format; blocks.

    Raises:
        NotInstalledError: the format needs a library that is not there.
    """
    if name not in COMPUTED:
        found = represent_by(name)(plan)
        pieces = (piece.source.read(piece.offset, piece.count) for piece in found.segments)
        return found.media_type, b"".join((found.content, *pieces))
    encoder = encoder_of(name)
    sizes = [column.dtype.nbytes for column in plan.columns]
    parts: list[bytes] = []

    def read(day: DayRecords, position: int, first: int, count: int) -> bytes:
        size = sizes[position]
        return day.sources[position].read(first * size, count * size)

    encoder.encode(plan, read, parts.append)
    return encoder.media_type, b"".join(parts)


def disposition(query: Query) -> Fields:
    """Content-Disposition (RFC 6266), where the format offers a file name."""
    extension = _EXTENSIONS.get(query.format)
    if extension is None:
        return ()
    first, last = (
        datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
        for second in (query.start_s, query.end_s)
    )
    name = f"{query.exchange}_{query.symbol}_{query.type}_{first}_{last}.{extension}"
    value = f'attachment; filename="{_UNSAFE.sub("_", name)}"'
    return ((b"Content-Disposition", value.encode("ascii")),)
