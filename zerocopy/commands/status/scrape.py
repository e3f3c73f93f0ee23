"""One page of metrics, fetched from a running server and read into numbers.

Owns the request, the bounds on what may come back, and the lines of the text format that concern
us; their grammar is that of prometheus_client. It must never trust the page: whatever listens on
that port may have sent it.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zerocopy.core.errors import ZerocopyError

if TYPE_CHECKING:
    from collections.abc import Mapping

Labels = frozenset[tuple[str, str]]

PAGE_BYTES_MAX = 4 * 1024 * 1024
"""A page of ours has some tens of KB; the worker's gauges grow it by 50 bytes a worker."""
DEADLINE_S = 5.0
"""For the whole page. A supervisor that does not answer within seconds is no better than none."""
_READ_BYTES = 64 * 1024

LINE_CHARACTERS_MAX = 1024
"""Ours have less than 200. What the parser takes for a line grows with the square of its length."""
_PREFIXES = ("zerocopy_", "process_")


@dataclass(frozen=True, slots=True)
class Page:
    """The samples of one scrape, and when it was made (seconds of a monotonic clock)."""

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that have these labels; None where the server has none."""
        wanted = labels.items()
        found = [value for key, value in self.samples.get(name, {}).items() if wanted <= set(key)]
        return math.fsum(found) if found else None

    def values(self, name: str, label: str) -> dict[str, float]:
        """The samples of a metric by one of its labels, added up."""
        sums: dict[str, float] = {}
        for key, value in self.samples.get(name, {}).items():
            place = dict(key).get(label, "")
            sums[place] = sums.get(place, 0.0) + value
        return sums


def fetch(url: str) -> Page:
    """Scrape `url`.

    Raises:
        ValueError: it is no URL of HTTP.
        ZerocopyError: nothing answers there, or what does is not zerocopy; one sentence.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError("must be like http://127.0.0.1:9091/metrics")
    target = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    try:
        text = _get(parts.hostname, parts.port or 80, target)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ZerocopyError(f"{url} is not reachable: {reason}") from None
    except http.client.HTTPException:
        raise ZerocopyError(f"{url} does not speak HTTP") from None
    samples = _samples(text)
    if not any(name.startswith("zerocopy_") for name in samples):
        raise ZerocopyError(f"{url} has no metrics of zerocopy")
    return Page(time.monotonic(), samples)


def _get(host: str, port: int, target: str) -> str:
    """The content of a 200; TimeoutError after `DEADLINE_S`, however little comes how slowly."""
    where = f"http://{host}:{port}{target}"
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
    connection.connect()
    is_late = threading.Event()

    def give_up(sock: socket.socket) -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    alarm = threading.Timer(DEADLINE_S, give_up, [connection.sock])
    alarm.start()
    try:
        connection.request("GET", target, headers={"Accept": "text/plain; version=0.0.4"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise ZerocopyError(f"{where} answers {response.status}")
        content = bytearray()
        while data := response.read1(_READ_BYTES):
            content += data
            if len(content) > PAGE_BYTES_MAX:
                raise ZerocopyError(f"{where} is no page of metrics: too long")
        if response.length:
            raise ConnectionResetError("the page is cut off")
    except (OSError, http.client.HTTPException):
        if is_late.is_set():
            raise TimeoutError("timed out") from None
        raise
    finally:
        alarm.cancel()
        connection.close()
    if is_late.is_set():
        raise TimeoutError("timed out")
    return content.decode("utf-8", "replace")


def _samples(text: str) -> dict[str, dict[Labels, float]]:
    """The samples of our metrics and of the process; every other line is passed over."""
    # Every command is imported with this one, and `zerocopy health` runs every few seconds.
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, dict[Labels, float]] = {}
    # Line by line: what one of them holds cannot hide the others, nor take long.
    for line in text.split("\n"):
        if not line.startswith(_PREFIXES) or len(line) > LINE_CHARACTERS_MAX:
            continue
        try:
            for family in text_string_to_metric_families(line):
                for name, labels, number, *_ in family.samples:
                    if math.isfinite(value := float(number)):
                        samples.setdefault(name, {})[frozenset(labels.items())] = value
        except (ValueError, LookupError, OverflowError):
            continue
    return samples
