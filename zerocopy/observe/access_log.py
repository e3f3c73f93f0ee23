"""What the log says of a request: its line in the access log, and its name in any other line.

Owns the choice of what may be written down: the target, of its query only the parameters that the
server reads, a request id, and the name of who asks. No other field of a request is looked at.
"""

from __future__ import annotations

import itertools
import random
import re
import secrets
from typing import TYPE_CHECKING

from zerocopy.core.bars import PARAMETERS as BARS_PARAMETERS
from zerocopy.core.endpoints import NAMES
from zerocopy.core.query import LIVE_PARAMETERS, PARAMETERS
from zerocopy.observe.log import get_logger

if TYPE_CHECKING:
    from zerocopy.core.http.pending import PendingRequest

TARGET_CHARS_MAX = 512
METHOD_CHARS_MAX = 16
"""What is kept of them; longer ones end in dots."""

_RAY = re.compile(rb"[0-9A-Za-z]{8,32}(?:-[0-9A-Za-z]{1,8})?")
"""CF-Ray as Cloudflare writes it (16 hexadecimal digits and the code of an airport), and a bit."""

_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)

_log = get_logger(__name__)


class AccessLog:
    """Logs a `sample` of the requests, 0.0 to 1.0; see `transport.request_metrics.Access`."""

    def __init__(self, sample: float) -> None:
        self._sample = sample

    def __call__(self, transport: str, pending: PendingRequest, duration_ns: int) -> None:
        """A request has ended, answered in full or cut off."""
        if random.random() >= self._sample:  # noqa: S311 - a sample, no secret
            return
        request, response = pending.request, pending.response
        promised = 0 if response is None or request.is_head else response.nbytes
        _log.info(
            "request",
            request_id=request_id(pending),
            transport=transport,
            method=_text(request.method, METHOD_CHARS_MAX),
            endpoint=NAMES[request.endpoint],
            status=None if response is None else response.status,
            bytes=max(0, promised - pending.left_bytes),
            duration_ms=round(duration_ns / 1e6, 3),
            complete=response is not None and not pending.left_bytes,
            target=shown_target(request.target),
            **_who(pending),
        )


def request_id(pending: PendingRequest) -> str:
    """The client's CF-Ray where it has one, else one of ours, made when it is first asked for."""
    if pending.id is None:
        rays = pending.request.values(b"cf-ray")
        if len(rays) == 1 and _RAY.fullmatch(rays[0]):
            pending.id = rays[0].decode("ascii")
        else:
            pending.id = f"{_PROCESS}-{next(_numbers):x}"
    return pending.id


def naming(pending: PendingRequest | None) -> dict[str, str]:
    """The fields by which a line of the log names the request that it is about, if any."""
    if pending is None:
        return {}
    target = shown_target(pending.request.target)
    return {"request_id": request_id(pending), "target": target, **_who(pending)}


def _who(pending: PendingRequest) -> dict[str, str]:
    """The name of the key or token, where `[auth]` is on and knows who asks; never the key."""
    return {} if pending.grant is None else {"key": pending.grant.name}


def shown_target(target: bytes) -> str:
    """A request target without what the server does not read: that may be a secret."""
    path, mark, query = target.partition(b"?")
    pairs = query.split(b"&") if mark else []
    shown = [pair for pair in pairs if pair.partition(b"=")[0] in _KNOWN]
    if len(shown) < len(pairs):
        shown.append(b"...")
    return _text(path + mark + b"&".join(shown), TARGET_CHARS_MAX)


_KNOWN = frozenset(name.encode("ascii") for name in PARAMETERS | BARS_PARAMETERS | LIVE_PARAMETERS)


def _text(data: bytes, count: int) -> str:
    """Printable ASCII as it is, any other byte as its code, and at most `count` of them."""
    text = data[:count].decode("ascii", "backslashreplace")
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return shown if len(data) <= count else shown + "..."
