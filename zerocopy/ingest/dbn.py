"""Databento's DBN as its CSV: its own library reads it, the rules for its CSV do the rest.

Owns the call of databento-dbn, which is not part of the extra `import`: it serves one vendor.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from zerocopy.core.errors import IngestError

if TYPE_CHECKING:
    from zerocopy.ingest.sources import Source

_PIECE_BYTES = 1 << 18


def dbn_as_csv(source: Source, stream: IO[bytes]) -> io.BufferedReader:
    """A stream of the CSV that Databento would have delivered: a header, integers, symbols.

    Raises:
        IngestError: the library is missing.
    """
    try:
        import databento_dbn  # noqa: PLC0415 - optional
    except ImportError:
        raise IngestError(
            f"{source.name}: is DBN: pip install databento-dbn, or ask Databento for CSV"
        ) from None

    class Reader(io.RawIOBase):
        """Pulls DBN on one side as CSV is read on the other."""

        def __init__(self) -> None:
            self._csv = io.BytesIO()
            self._rest = memoryview(b"")
            self._transcoder = databento_dbn.Transcoder(
                self._csv,
                databento_dbn.Encoding("csv"),
                databento_dbn.Compression("none"),
                pretty_px=False,
                pretty_ts=False,
                map_symbols=True,
            )
            self._is_over = False

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            while not self._rest and not self._is_over:
                self._pull()
            count = min(len(buffer), len(self._rest))
            buffer[:count], self._rest = self._rest[:count], self._rest[count:]
            return count

        def _pull(self) -> None:
            piece = stream.read(_PIECE_BYTES)
            try:
                if piece:
                    self._transcoder.write(piece)
                    self._transcoder.flush()
                else:
                    self._is_over = True
                    if self._transcoder.buffer():
                        raise IngestError(f"{source.name}: is cut off within a record")
                    self._transcoder.finish()
            except (databento_dbn.DBNError, ValueError) as error:
                raise IngestError(f"{source.name}: cannot be read as DBN: {error}") from error
            self._rest = memoryview(self._csv.getvalue())
            self._csv.seek(0)
            self._csv.truncate()

    return io.BufferedReader(Reader(), _PIECE_BYTES)
