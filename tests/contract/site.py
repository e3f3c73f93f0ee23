"""A data root, the running command over it and one way to ask: what every contract test uses."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.naive import naive_answer, naive_symbols
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import DTYPES, U32_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.contract.transports import KeptHttp2, Session, Transport
    from tests.server import Answer
    from zerocopy.storage.tree import Series

COLUMNS_ENVIRON = {"ZEROCOPY_COLUMNS_id": "u8", "ZEROCOPY_COLUMNS_order": "S16"}


def data_target(
    series: Series,
    start_s: int = 0,
    end_s: int = U32_MAX,
    columns: Sequence[str] = ("time", "price"),
    **others: str,
) -> str:
    """The request target of a query, encoded as a form."""
    parameters = {
        "exchange": series.exchange,
        "symbol": series.symbol,
        "type": series.type,
        "start": str(start_s),
        "end": str(end_s),
        "columns": ",".join(columns),
        **others,
    }
    return "/api/data?" + urlencode(parameters)


def header_of(answer: Answer) -> dict[str, Any]:
    """The header line of a data answer."""
    header: dict[str, Any] = json.loads(answer.content.partition(b"\n")[0])
    return header


def data_of(answer: Answer) -> bytes:
    """The records of a data answer, all columns."""
    return answer.content.partition(b"\n")[2]


@dataclass(frozen=True, slots=True)
class Site:
    """A server over `root`, reached by `transport`."""

    root: str
    server: RunningServer
    transport: Transport
    kept: KeptHttp2 | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A connection for several requests."""
        session = self.transport.connect(self.server)
        try:
            yield session
        finally:
            session.close()

    def ask(
        self, target: str, *, method: str = "GET", fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request on a connection of its own, or on a kept one; nothing after its response."""
        if self.kept is not None:
            return self.kept.request(target, method=method, fields=fields)
        with self.session() as session:
            return session.request(target, method=method, fields=fields, last=True)

    def data(
        self,
        series: Series,
        start_s: int = 0,
        end_s: int = U32_MAX,
        columns: Sequence[str] = ("time", "price"),
    ) -> Answer:
        """One data request, of everything unless told otherwise."""
        return self.ask(data_target(series, start_s, end_s, columns))

    def expected(
        self,
        series: Series,
        start_s: int = 0,
        end_s: int = U32_MAX,
        columns: Sequence[str] = ("time", "price"),
    ) -> bytes:
        """The body that the oracle gives."""
        return naive_answer(self.root, *series, start_s, end_s, columns, DTYPES)

    def expected_symbols(self, exchange: str | None = None) -> dict[str, Any]:
        """The document that the oracle gives."""
        return naive_symbols(self.root, exchange)


@contextmanager
def serve_all(root: str, **environ: str) -> Iterator[RunningServer]:
    """Run the command over `root`, to be reached by every transport, as long as the block runs."""
    with ForkedServer(root, **{"ZEROCOPY_TLS_PORT": "0", **COLUMNS_ENVIRON, **environ}) as server:
        yield server


@contextmanager
def serve(transport: Transport, root: str, **environ: str) -> Iterator[Site]:
    """Run the command over `root` for one transport alone, as long as the block runs."""
    with ForkedServer(root, **{**transport.environ, **COLUMNS_ENVIRON, **environ}) as server:
        yield Site(root, server, transport)
