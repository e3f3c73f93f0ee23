"""The report of several nodes: a row each, and the share of requests that each one has.

Owns the columns, and what a node that does not answer looks like. A node is known by its page of
metrics alone; the front in front of it is not asked.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zerocopy.commands.status.figures import figures_of
from zerocopy.commands.status.scrape import Page, fetch
from zerocopy.core.errors import ZerocopyError

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES_MAX = 1_000
"""Pages that are asked for; a thread for each of the first 32."""
_THREADS_MAX = 32

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("requests", "requests/s", "count"),
    ("share", "share", "share"),
    ("failed", "failed (5xx)", "share"),
    ("data_p99", "data, p99", "seconds"),
    ("sent", "sent/s", "bytes"),
    ("warm", "from memory", "share"),
    ("store_hits", "store hits", "share"),
    ("store_bytes", "from store/s", "bytes"),
    ("connections", "connections", "count"),
    ("lag_p99", "loop late, p99", "seconds"),
)
"""Key, heading and unit of each figure of a node, all of them between the two scrapes."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One look at all nodes: a page each, or the sentence that says why there is none."""

    pages: dict[str, Page]
    errors: dict[str, str]


@dataclass(slots=True)
class Node:
    """A row of the report; figures that are not known are None."""

    url: str
    error: str | None = None
    page: Page | None = None
    figures: dict[str, float | None] = field(default_factory=dict)


def look(urls: Sequence[str]) -> Scrape:
    """Scrape all nodes side by side.

    Raises:
        ValueError: one of them is no URL of HTTP.
    """
    pages: dict[str, Page] = {}
    errors: dict[str, str] = {}

    def ask(url: str) -> None:
        try:
            pages[url] = fetch(url)
        except ZerocopyError as error:
            errors[url] = str(error)

    with ThreadPoolExecutor(min(len(urls), _THREADS_MAX)) as threads:
        for answer in [threads.submit(ask, url) for url in urls]:
            answer.result()
    return Scrape(pages, errors)


def nodes_of(urls: Sequence[str], before: Scrape, after: Scrape) -> list[Node]:
    """The rows, in the order of `urls`; shares are of the nodes that answered both times."""
    nodes = [_node_of(url, before, after) for url in urls]
    total = sum(node.figures.get("requests") or 0 for node in nodes)
    for node in nodes:
        requests = node.figures.get("requests")
        if requests is not None:
            node.figures["share"] = requests / total if total else None
    return nodes


def _node_of(url: str, before: Scrape, after: Scrape) -> Node:
    page = after.pages.get(url)
    if page is None:
        return Node(url, error=after.errors[url])
    # A node that did not answer the first time has no rates yet.
    first = before.pages.get(url, Page(page.at_s, {}))
    now = {figure.key: figure.now for figure in figures_of(first, page)}
    sent = _sum(now["sent_sendfile"], now["sent_copy"])
    cold = now["cold_bytes"]
    known = {key: now.get(key) for key, _, _ in COLUMNS}
    known["sent"] = sent
    # What is read ahead of a client that leaves was sent to nobody.
    known["warm"] = max(0.0, 1 - cold / sent) if sent and cold is not None else None
    known["connections"] = _sum(now["connections_plain"], now["connections_tls"])
    return Node(url, page=page, figures=known)


def remarks_of(nodes: Sequence[Node]) -> list[str]:
    """What the table does not show at a glance, a sentence each."""
    remarks = []
    if silent := sum(node.page is None for node in nodes):
        remarks.append(f"{silent} of {len(nodes)} nodes do not answer")
    versions = {version for node in nodes if (version := version_of(node))}
    if len(versions) > 1:
        remarks.append(f"versions differ: {', '.join(sorted(versions))}")
    return remarks


def version_of(node: Node) -> str | None:
    """What the node says of itself."""
    builds = node.page.samples.get("zerocopy_build_info", {}) if node.page else {}
    return dict(next(iter(builds), frozenset())).get("version")


def document_of(nodes: Sequence[Node], interval_s: float) -> dict[str, Any]:
    """The report for machines."""
    return {
        "interval_s": interval_s,
        "nodes": [
            {
                "url": node.url,
                "error": node.error,
                "version": version_of(node),
                "figures": {
                    key: {"unit": unit, "now": node.figures.get(key)} for key, _, unit in COLUMNS
                },
            }
            for node in nodes
        ],
        "remarks": remarks_of(nodes),
    }


def _sum(one: float | None, other: float | None) -> float | None:
    """Of what is known; None where nothing is."""
    known = [value for value in (one, other) if value is not None]
    return sum(known) if known else None
