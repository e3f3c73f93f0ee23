"""A request and its response, as every transport and the service see them.

Values only. Field names are lower-case in requests, as HTTP/2 sends them, and in the spelling of
RFC 9110 in responses. `Date`, `Server`, `Content-Length` and framing are the transport's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zerocopy.core.codings import NOTHING, accepted_by
from zerocopy.core.endpoints import OPEN, endpoint_of
from zerocopy.core.http.authority import is_authority
from zerocopy.core.plan import ends_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.access import Grant
    from zerocopy.core.codings import Accepted
    from zerocopy.core.http.stream import Feed
    from zerocopy.core.http.validators import Validators
    from zerocopy.core.plan import Segment
    from zerocopy.core.window import Window

REASONS = {
    101: "Switching Protocols",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
"""Every status there is, with its phrase of RFC 9110 section 15 and RFC 6585.

http.HTTPStatus knows them too, but changes phrases from one Python to the next.
"""

_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*+)(.*+)", re.IGNORECASE | re.DOTALL)

_CONDITIONAL = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range"}
)
_SELECTING = _CONDITIONAL | {b"accept-encoding"}

_ERROR = 400
"""The first status of an error, RFC 9110 section 15.5."""

Fields = tuple[tuple[bytes, bytes], ...]

AnswerKey = bytes | tuple[bytes, "Accepted"]
"""All that chooses an answer, preconditions and ranges aside: the request target, and the content
codings that the client takes where the answer has several."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request whose framing the transport has already checked.

    `target` is the request target in origin-form, still percent-encoded. `is_conditional` tells
    whether its fields may change a 200 into another response (RFC 9110 sections 13 and 14), and
    `endpoint` is what its path names, and `accepts` which content codings may be of use.
    `answer_key` is what finds a kept response, and `is_head` whether that goes without its content
    (section 9.3.2). `is_websocket`: it is a valid opening handshake (RFC 6455 section 4.2.1, RFC
    8441); who answers may ignore it (RFC 9110 section 7.8). `network` is the peer's
    (`core/network.py`), where the handler asks for it: then requests of different networks are
    different ones. `grant` is who asks, once that was found out and is allowed to see this target;
    it lives as long as the request, which transports keep beside the bytes it came in.
    """

    method: bytes
    target: bytes
    fields: Fields = field(repr=False)  # they hold credentials
    is_websocket: bool = False
    network: bytes = b""
    is_conditional: bool = field(init=False, compare=False)
    endpoint: int = field(init=False, compare=False)
    accepts: Accepted = field(init=False, compare=False, repr=False)
    answer_key: AnswerKey = field(init=False, compare=False, repr=False)
    is_head: bool = field(init=False, compare=False, repr=False)
    grant: Grant | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        # Once for a head: transports keep the request beside the bytes it came in.
        conditional = not _CONDITIONAL.isdisjoint([name for name, _ in self.fields])
        object.__setattr__(self, "is_conditional", conditional)
        endpoint = endpoint_of(self.target)
        object.__setattr__(self, "endpoint", endpoint)
        accepts = accepted_by(self.target, endpoint, self.fields)
        object.__setattr__(self, "accepts", accepts)
        # The target alone where that will do: bytes keep their hash, and a tuple does not.
        key = self.target if accepts is NOTHING else (self.target, accepts)
        object.__setattr__(self, "answer_key", key)
        object.__setattr__(self, "is_head", self.method == b"HEAD")

    def unconditional(self) -> Request:
        """The same without preconditions, ranges and content codings."""
        fields = tuple(each for each in self.fields if each[0] not in _SELECTING)
        return Request(self.method, self.target, fields, self.is_websocket, self.network)

    def be_granted(self, grant: Grant) -> None:
        """`grant` lets this request have its answer, whenever it comes again."""
        object.__setattr__(self, "grant", grant)

    @property
    def is_open(self) -> bool:
        """Whether anybody may ask this, whatever `[auth]` says."""
        return self.endpoint in OPEN or self.method == b"OPTIONS"

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field called `name` (lower-case), in order."""
        return [value for field, value in self.fields if field == name]


def origin_form(target: bytes, method: bytes = b"") -> bytes:
    """A request target in origin-form; a server must take absolute-form too.

    RFC 9112 sections 3.2.1 and 3.2.2. Without a path it means the root, but to OPTIONS the server
    (RFC 9110 section 4.2.3). What has no valid authority (section 4.2.1), or one with user
    information (section 4.2.4), stays as it is: no transport answers it.
    """
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None or not is_authority(absolute[1]):
        return target
    path = absolute[2]
    if not path and method == b"OPTIONS":
        return b"*"
    return path if path.startswith(b"/") else b"/" + path


class Response:
    """One response: status, fields and a body of `content` followed by `segments`.

    `content` holds everything of a small response and the header line of a large one. With a `feed`
    there is neither content nor an end: the transport pulls what follows from it. `ends` holds
    for each segment where it ends, in bytes after the content; a part of another response has only
    its `nbytes`, and is not cut again. `validators` tell the state of the
    representation, where it has any.

    A response may be sent many times; `head_h1` and `head_h2` are the transports' renderings of
    what never changes in it, `unchanged` is the 304 in its place, and `coded` is a document in each
    content coding that was asked for; they are kept here because they live exactly as long.
    """

    __slots__ = (
        "coded", "content", "ends", "feed", "fields", "head_h1", "head_h2", "nbytes", "segments",
        "status", "unchanged", "validators",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        fields: Fields,
        content: bytes = b"",
        segments: tuple[Segment, ...] = (),
        *,
        ends: Sequence[int] | None = None,
        nbytes: int | None = None,
        validators: Validators | None = None,
        feed: Feed | None = None,
    ) -> None:
        self.status = status
        self.fields = fields
        self.content = content
        self.segments = segments
        if nbytes is None:
            ends = ends_of(segments) if ends is None else ends
            assert len(ends) == len(segments), "an end for each segment"
            nbytes = len(content) + (ends[-1] if segments else 0)
        self.ends = ends
        self.nbytes = nbytes
        self.validators = validators
        self.feed = feed
        self.unchanged: Response | None = None
        self.coded: dict[bytes, Response] | None = None
        self.head_h1: bytes | None = None
        self.head_h2: bytes | None = None


def content_bytes(request: Request, response: Response) -> int:
    """Bytes that count for who asks: content, not of an error, and not to HEAD."""
    return 0 if response.status >= _ERROR or request.is_head else response.nbytes


class Handler(Protocol):
    """What answers requests: the service, seen from a transport.

    `is_counting`: somebody may have limits. Then `counts` tells for whom `admits` is asked before a
    response is given again.
    `asks_network`: each request is to have the network of its peer.
    """

    is_counting: bool
    asks_network: bool

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """The response, where it takes no waiting: microseconds, no disk; else None.

        `times` is how many equal requests it answers; all of them were received before this call.
        With 0 nothing is counted: who may use the response, or not, calls `admits` and
        `count_reused` once that is known.
        It has no feed, for each request needs its own: `respond` gives those.
        """

    async def respond(self, request: Request) -> Response:
        """The response, waiting for threads where needed; never raises on account of input.

        A transport may cancel it once the client has left.
        """

    def counts(self, request: Request) -> bool:
        """Whether who has asked for what `respond_now` has just given has limits."""

    def admits(self, request: Request, response: Response) -> bool:
        """Whether `request` may have what `respond_now` gave to one like it; counts it, if so."""

    def count_reused(self, times: int) -> None:
        """A response of `respond_now` has answered so many requests that it has not counted."""

    async def prepare(self, window: Window) -> None:
        """Have a thread open, map and read in what is not ready, in order; wait for it.

        Raises:
            DataError: something of it changed, or cannot be opened or read.
            OverloadError: descriptors or memory are short.
        """

    def refuse(self, error: Exception) -> Response:
        """The response to a request that a transport could not read or a bound refuses."""


class Unlimited:
    """What a `Handler` without limits says of them."""

    is_counting = False
    asks_network = False

    def counts(self, request: Request) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def admits(self, request: Request, response: Response) -> bool:  # noqa: ARG002
        """Always."""
        return True
