"""The page: its files as responses, by the path a browser asks for.

Owns which files there are, their names, media types and fields. `GET /` is one HTML file that
every visit asks for again; what it loads has a hash of its bytes in its name and is kept for good.

Files name each other by where they lie (`from "../zerocopy.js"`), so that node and editors read
them as they are. They are read from the leaves up: an import is rewritten to the hashed name of
a file that is final already, so a changed leaf changes the names of all that import it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from typing import TYPE_CHECKING

from zerocopy.core.codings import VARY
from zerocopy.core.http.messages import Response
from zerocopy.core.http.validators import document_validators
from zerocopy.service.problems import CORS_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zerocopy.core.http.messages import Fields

WEB = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "web")
"""The folder of the page; importlib.resources would find it too, but takes 6 ms to import."""

PAGE = "ui/index.html"
STABLE = ("zerocopy.js", "zerocopy.d.ts")
"""The client, which other pages import: below /ui/ by its plain name, too."""

MEDIA_TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
    "ts": b"text/plain; charset=utf-8",  # a browser would take its own type for a video's
}
"""By the ending of a name. A file with another ending, a licence, is not served."""

CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""CSP level 3: nothing from elsewhere, nothing inline. `'self'` covers ws: and wss: of the same
host and port."""

_HASH_BYTES = 8
_ASKED_ANEW = b"no-cache"
_KEPT = b"public, max-age=31536000, immutable"  # a year, as RFC 8246 means it

_IMPORT = re.compile(rb"""(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}/[^"'\n]+)\2""")
_LINK = re.compile(rb"""(\b(?:href|src)=)(["'])((?!\w+:|[/#]|\./)[^"']+)\2""")

_ASSET_FIELDS: Fields = ((b"X-Content-Type-Options", b"nosniff"), VARY, *CORS_FIELDS)
_PAGE_FIELDS: Fields = (
    (b"Content-Security-Policy", CONTENT_SECURITY_POLICY),
    (b"Referrer-Policy", b"no-referrer"),
    *_ASSET_FIELDS,
)


def page_documents() -> dict[bytes, Response]:
    """Every response of the page by its path: `/`, `/ui/NAME.HASH.js`, `/ui/zerocopy.js`.

    >>> page_documents()[b"/"].fields[0]
    (b'Content-Type', b'text/html; charset=utf-8')
    """
    return documents_of(dict(_read(WEB)))


def documents_of(contents: Mapping[str, bytes]) -> dict[bytes, Response]:
    """The same of given files, by their paths from one folder.

    A file that names one that is not there, or two that import each other, are our own error.
    """
    bundle = _Bundle(contents)
    documents = {}
    for name in sorted(contents):
        if name != PAGE:
            path, content = b"/ui/" + bundle.hashed_name(name).encode(), bundle.final(name)
            assert path not in documents, f"{name}: another file has this name"
            documents[path] = _document(name, content, _KEPT, _ASSET_FIELDS)
    for name in STABLE:
        if name in contents:
            path = b"/ui/" + name.encode()
            documents[path] = _document(name, bundle.final(name), _ASKED_ANEW, _ASSET_FIELDS)
    documents[b"/"] = _document(PAGE, bundle.final(PAGE), _ASKED_ANEW, _PAGE_FIELDS)
    return documents


class _Bundle:
    """Files whose names for each other are being rewritten, each once."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents
        self._final: dict[str, bytes] = {}
        self._begun: set[str] = set()

    def final(self, name: str) -> bytes:
        """The bytes of a file as they are sent."""
        if name not in self._final:
            assert name not in self._begun, f"{name}: imports itself through others"
            self._begun.add(name)
            content, folder = self._contents[name], posixpath.dirname(name)
            if name == PAGE:
                content = self._rewrite(content, _LINK, folder, b"ui/")
            elif _ending(name) == "js":
                content = self._rewrite(content, _IMPORT, folder, b"./")
            self._final[name] = content
        return self._final[name]

    def hashed_name(self, name: str) -> str:
        """`app.0123456789abcdef.js`: all files lie in one folder for the browser."""
        digest = hashlib.blake2b(self.final(name), digest_size=_HASH_BYTES).hexdigest()
        stem, ending = posixpath.splitext(posixpath.basename(name))
        return f"{stem}.{digest}{ending}"

    def _rewrite(
        self, content: bytes, pattern: re.Pattern[bytes], folder: str, prefix: bytes
    ) -> bytes:
        def hashed(match: re.Match[bytes]) -> bytes:
            before, quote, target = match.groups()
            name = posixpath.normpath(posixpath.join(folder, target.decode()))
            assert name in self._contents, f"{folder}: {target!r} is not among the files"
            return b"".join([before, quote, prefix, self.hashed_name(name).encode(), quote])

        return pattern.sub(hashed, content)


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _read(root: str) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder that has a media type, by its path from there."""
    for folder, _, names in os.walk(root):
        for name in names:
            if _ending(name) in MEDIA_TYPES:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    yield os.path.relpath(path, root), file.read()


def _document(name: str, content: bytes, cache_control: bytes, more: Fields) -> Response:
    validators = document_validators(content)
    fields = (
        (b"Content-Type", MEDIA_TYPES[_ending(name)]),
        (b"Cache-Control", cache_control),
        (b"ETag", validators.etag),
        *more,
    )
    return Response(200, fields, content, validators=validators)
