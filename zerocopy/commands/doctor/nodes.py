"""`zerocopy doctor --node`: do the nodes of a cluster serve the same, at the same time of day?

Owns what each node is asked, and the checks that compare the answers. A node is known by what it
serves, as a client knows it; the checks themselves read no socket.
"""

from __future__ import annotations

import http.client
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import orjson

from zerocopy.client.errors import BadRequest
from zerocopy.client.keys import Found, find_key
from zerocopy.commands.doctor.finding import Finding, Verdict, ok, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 10.0
SERIES_MAX = 20
"""Series whose validators are compared, spread over all that the first node lists."""
CLOCK_S_MAX = 2.0
"""A Date field is whole seconds, so two right clocks may seem a second apart."""
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_DAY_S = 86_400
_SOURCE = "docs/scale-out.md, What fails, and what clients see"


@dataclass(frozen=True, slots=True)
class Node:
    """What a node said; `error` where it did not."""

    url: str
    error: str = ""
    ready: bool = False
    clock_s: float = 0.0
    """How far its clock is ahead of this machine's."""
    series: frozenset[str] = frozenset()
    tags: dict[str, str] = field(default_factory=dict)
    """Status, ETag and length of the first day of some series, by `exchange/symbol`."""


def examine(urls: Sequence[str]) -> list[Finding]:
    """Ask all nodes, and compare.

    Raises:
        ValueError: one of them is no URL of HTTP.
    """
    asks = [_Asking(url) for url in dict.fromkeys(urls)]
    with ThreadPoolExecutor(min(len(asks), 32)) as threads:
        nodes = list(threads.map(_Asking.look, asks))
        wanted = _some(frozenset().union(*(node.series for node in nodes)))
        # Of the first node that has any: those that it lacks are told anyway.
        having = (ask for ask, node in zip(asks, nodes, strict=True) if node.series)
        if (first := next(having, None)) is not None:
            spans = first.spans(wanted)
            nodes = list(threads.map(lambda ask, node: ask.tagged(node, spans), asks, nodes))
    return compare(nodes)


def compare(nodes: Sequence[Node]) -> list[Finding]:
    """The findings, the most urgent first."""
    findings = [_reached(node) for node in nodes]
    there = [node for node in nodes if not node.error]
    if len(there) > 1:
        findings += [_clocks(there), _series(there), _validators(there)]
    order = list(Verdict)
    return sorted(findings, key=lambda finding: order.index(finding.verdict))


def _reached(node: Node) -> Finding:
    check = f"node {node.url}"
    if node.error:
        return Finding(check, Verdict.CHANGE, node.error)
    if not node.ready:
        return Finding(check, Verdict.CHANGE, "/readyz says that it is not ready", source=_SOURCE)
    return ok(check, f"ready, {len(node.series):,} series")


def _clocks(nodes: Sequence[Node]) -> Finding:
    check = "clocks"
    slow, *_, fast = sorted(nodes, key=lambda node: node.clock_s)
    apart_s = fast.clock_s - slow.clock_s
    if apart_s <= CLOCK_S_MAX:
        return ok(check, f"within {CLOCK_S_MAX:g} s")
    return Finding(
        check,
        Verdict.CHANGE,
        f"{fast.url} is {apart_s:.0f} s ahead of {slow.url}",
        "run chrony or systemd-timesyncd on every node",
        "open days, tickets and tokens are judged by the clock",
        _SOURCE,
    )


def _series(nodes: Sequence[Node]) -> Finding:
    check, everything = "series", frozenset().union(*(node.series for node in nodes))
    lacking = [(node, everything - node.series) for node in nodes if everything - node.series]
    if not lacking:
        return ok(check, f"the same {len(everything):,} on all nodes")
    node, missing = max(lacking, key=lambda pair: len(pair[1]))
    return Finding(
        check,
        Verdict.CHANGE,
        f"{node.url} lacks {len(missing):,} of {len(everything):,}, such as {min(missing)}",
        "give every node the same data, or the same rights to it",
        "a series that its node lacks is 404",
        _SOURCE,
    )


def _validators(nodes: Sequence[Node]) -> Finding:
    check = "files"
    names = sorted(set[str]().union(*(node.tags for node in nodes)))
    if not names:
        return unknown(check, "a day that all nodes have")
    for name in names:
        tags = {node.tags.get(name, "no answer") for node in nodes}
        if len(tags) > 1:
            return Finding(
                check,
                Verdict.CHANGE,
                f"the first day of {name} has {len(tags)} different ETags",
                "give every node the same files: names, sizes, modification times (rsync -t)",
                "a transfer that breaks off begins anew at another node",
                _SOURCE,
            )
    return ok(check, f"the same ETags for {len(names)} series")


def _some(series: frozenset[str]) -> list[str]:
    """Some of them, evenly spread over their order."""
    names = sorted(series)
    step = max(1, len(names) // SERIES_MAX)
    return names[::step][:SERIES_MAX]


class _NotSoError(ValueError):
    """An answer that is another than the one wanted; one sentence."""


class _Asking:
    """One node, and the requests that it is asked."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ValueError(url)
        self._is_tls = parts.scheme == "https"
        self._url, self._host, self._port = url, parts.hostname, parts.port
        self._key = Found(None, "")

    def look(self) -> Node:
        """Ready, clock and series."""
        told = os.environ.get("ZEROCOPY_URL")
        is_told = None if told is None else told.rstrip("/") == self._url.rstrip("/")
        try:
            self._key = find_key(None, self._host, is_tls=self._is_tls, is_told=is_told)
            began_s = time.time()
            status, fields, _ = self._get("/readyz")
            ended_s = time.time()
            told_s = parsedate_to_datetime(fields["date"]).timestamp()
            document = self._document("/api/symbols")
            series = frozenset(
                f"{exchange}/{entry['symbol']}"
                for exchange, entries in document["exchanges"].items()
                for entry in entries
            )
        except BadRequest as error:
            return Node(self._url, error=str(error))
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            return Node(self._url, error=_said(error))
        # Half a second: the Date is cut to a whole one.
        clock_s = told_s + 0.5 - (began_s + ended_s) / 2
        return Node(self._url, "", status == http.HTTPStatus.OK, clock_s, series)

    def spans(self, names: Sequence[str]) -> dict[str, str]:
        """The query of the first day of each series, which is closed in all likelihood."""
        found = {}
        for name in names:
            exchange, _, symbol = name.partition("/")
            try:
                query = {"exchange": exchange, "symbol": symbol}
                types = self._document(f"/api/catalog?{urlencode(query)}")["types"]
                type_ = min(type_ for type_, about in types.items() if about["days"])
                start = types[type_]["first_time"] // _DAY_S * _DAY_S
                query |= {"type": type_, "columns": "time", "start": start}
                found[name] = urlencode(query | {"end": start + _DAY_S - 1})
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
                continue
        return found

    def tagged(self, node: Node, spans: dict[str, str]) -> Node:
        """The node with the validators of these queries."""
        if node.error:
            return node
        tags = {}
        for name, query in spans.items():
            try:
                status, fields, _ = self._get(f"/api/data?{query}", "HEAD")
            except (OSError, http.client.HTTPException):
                continue
            tags[name] = f"{status} {fields.get('etag')} {fields.get('content-length')}"
        return Node(node.url, node.error, node.ready, node.clock_s, node.series, tags)

    def _document(self, target: str) -> Any:
        status, _, content = self._get(target)
        if status == http.HTTPStatus.UNAUTHORIZED:
            raise _NotSoError(f"asks for a key: {self._key.hint or 'this one is none of its own'}")
        if status != http.HTTPStatus.OK:
            raise _NotSoError(f"{target.partition('?')[0]} answers {status}")
        return orjson.loads(content)

    def _get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        key = self._key.key
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()


def _said(error: Exception) -> str:
    """Why a node could not be asked, in a few words."""
    if isinstance(error, OSError):
        return f"not reachable: {error.strerror or type(error).__name__}"
    if isinstance(error, _NotSoError):
        return str(error)
    return "does not answer as zerocopy does"
