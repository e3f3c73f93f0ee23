"""A stand-in for S3: a bucket in memory behind HTTP, which can fail in the ways that stores do.

Speaks what obstore asks of one: ListObjectsV2 in pages, GetObject with Range and If-Match,
HeadObject, PutObject, DeleteObjects and multipart uploads, path style. No signature is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, unescape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "market"
PAGE = 1_000
"""Keys of a page of a listing, as in S3."""

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "secret/of/the/test",
    "AWS_REGION": "us-east-1",
}


def environ_of(url: str, cache: str | os.PathLike[str]) -> dict[str, str]:
    """The environment of a node over the store at `url`, whose copies lie below `cache`."""
    return {
        "ZEROCOPY_S3_ENDPOINT": url,
        "ZEROCOPY_S3_ALLOW_HTTP": "true",
        "ZEROCOPY_S3_CACHE_PATH": os.fspath(cache),
        **CREDENTIALS,
    }


@dataclass(frozen=True)
class Stored:
    """An object."""

    content: bytes
    modified_s: int
    etag: str


@dataclass
class Reply:
    """What a request is to get instead of the truth."""

    status: int = 200
    fields: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    cut: int | None = None
    """Send so many bytes of the content, then close."""


class Standin:
    """The bucket. `fault(method, key)` may give another reply to a request than the true one."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.lock = threading.Lock()
        self.fault: Callable[[str, str], Reply | None] = lambda _method, _key: None
        self.listed: dict[str, Stored] | None = None
        """What listings show, where that is not what is there."""
        self.requests: list[tuple[str, str]] = []
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.port = 0
        self.page = PAGE

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Empty it, and let it be sound."""
        with self.lock:
            self.objects, self.requests, self.uploads = {}, [], {}
        self.fault, self.listed, self.page = lambda _method, _key: None, None, PAGE

    def put(
        self,
        key: str,
        content: bytes,
        modified_s: float | None = None,
        parts: list[bytes] | None = None,
    ) -> None:
        """Store an object; one that came in parts has an ETag of theirs, as in S3."""
        at_s = int(time.time() if modified_s is None else modified_s)
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if parts is not None:
            digests = b"".join(hashlib.md5(part).digest() for part in parts)
            etag = f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'
        with self.lock:
            self.objects[key] = Stored(content, at_s, etag)

    def upload(self, root: str | os.PathLike[str], prefix: str = "") -> None:
        """Store every file below a directory, with its modification time in whole seconds."""
        from pathlib import Path  # noqa: PLC0415

        for path in sorted(Path(root).rglob("*.bin")):
            if path.is_file() and not path.is_symlink():
                key = prefix + path.relative_to(root).as_posix()
                self.put(key, path.read_bytes(), int(path.stat().st_mtime))

    def fetched(self) -> list[str]:
        """The keys that were read, in the order of the requests."""
        return [key for method, key in self.requests if method == "GET" and key]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and content leave together
    standin: Standin

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _split(self) -> tuple[str, dict[str, str]]:
        path, _, query = self.path.partition("?")
        key = urllib.parse.unquote(path).removeprefix(f"/{BUCKET}").lstrip("/")
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        return key, dict(pairs)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return body
        content = b""
        while body:
            head, _, body = body.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            if not size:
                break
            content, body = content + body[:size], body[size + 2 :]
        return content

    def _answer(self, reply: Reply, *, is_head: bool = False) -> None:
        self.send_response(reply.status)
        for name, value in reply.fields.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.fields:
            self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        if is_head:
            return
        sent = reply.content if reply.cut is None else reply.content[: reply.cut]
        try:
            self.wfile.write(sent)
        except OSError:
            self.close_connection = True
        if reply.cut is not None:
            self.close_connection = True

    def _begin(self) -> tuple[str, dict[str, str], Reply | None]:
        key, query = self._split()
        with self.standin.lock:
            self.standin.requests.append((self.command, key))
        return key, query, self.standin.fault(self.command, key)

    def do_GET(self) -> None:
        key, query, fault = self._begin()
        if fault is not None:
            self._answer(fault)
        elif key:
            self._object(key)
        else:
            self._list(query)

    def do_HEAD(self) -> None:
        key, _, fault = self._begin()
        self._object(key, is_head=True) if fault is None else self._answer(fault, is_head=True)

    def do_PUT(self) -> None:
        key, query, fault = self._begin()
        body = self._body()
        if fault is not None:
            self._answer(fault)
            return
        if "uploadId" in query:
            self.standin.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.standin.put(key, body)
        self._answer(Reply(fields={"ETag": f'"{hashlib.md5(body).hexdigest()}"'}))

    def do_POST(self) -> None:
        key, query, fault = self._begin()
        body = self._body()
        if fault is not None:
            self._answer(fault)
            return
        if "delete" in query:
            keys = [found.decode() for found in re.findall(rb"<Key>([^<]*)</Key>", body)]
            for name in keys:
                self.standin.objects.pop(unescape(name), None)
            deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in keys)
            self._answer(_xml(f"<DeleteResult>{deleted}</DeleteResult>"))
            return
        if "uploads" in query:
            number = str(len(self.standin.uploads))
            self.standin.uploads[number] = {}
            self._answer(
                _xml(
                    f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId>"
                    "</InitiateMultipartUploadResult>"
                )
            )
            return
        parts = [part for _, part in sorted(self.standin.uploads.pop(query["uploadId"]).items())]
        self.standin.put(key, b"".join(parts), parts=parts)
        etag = escape(self.standin.objects[key].etag)
        self._answer(
            _xml(
                "<CompleteMultipartUploadResult><Key>x</Key>"
                f"<ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            )
        )

    def _object(self, key: str, *, is_head: bool = False) -> None:
        found = self.standin.objects.get(key)
        if found is None:
            self._answer(error_reply(404, "NoSuchKey"), is_head=is_head)
            return
        if self.headers.get("If-Match") not in (None, found.etag):
            self._answer(error_reply(412, "PreconditionFailed"), is_head=is_head)
            return
        self._answer(true_reply(found, self.headers.get("Range")), is_head=is_head)

    def _list(self, query: dict[str, str]) -> None:
        standin = self.standin
        with standin.lock:
            shown = dict(standin.objects if standin.listed is None else standin.listed)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(key for key in shown if key.startswith(prefix))
        items: dict[str, Stored | None] = {}
        for key in keys:
            folder, found, _ = (
                key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            )
            items[prefix + folder + delimiter if found else key] = None if found else shown[key]
        names = [name for name in items if name > after]
        page = names[: standin.page]
        rows = []
        for name in page:
            item = items[name]
            if item is None:
                rows.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
                continue
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(item.modified_s))
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{modified}</LastModified>"
                f"<ETag>{escape(item.etag)}</ETag><Size>{len(item.content)}</Size></Contents>"
            )
        is_cut = len(names) > len(page)
        token = (
            f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_cut else ""
        )
        self._answer(
            _xml(
                f"<ListBucketResult><IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}"
                f"<KeyCount>{len(page)}</KeyCount>{''.join(rows)}</ListBucketResult>"
            )
        )


def true_reply(found: Stored, asked: str | None = None) -> Reply:
    """What a store answers that has `found`, to a GET with the Range `asked`."""
    content, status = found.content, 200
    fields = {
        "ETag": found.etag,
        "Last-Modified": formatdate(found.modified_s, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if asked:
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(content)), len(content) - 1)
        fields["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
        content, status = content[begin : end + 1], 206
    return Reply(status, {**fields, "Content-Length": str(len(content))}, content)


def error_reply(status: int, code: str) -> Reply:
    """An error of S3, with what its document says of the request."""
    reply = _xml(
        f"<Error><Code>{code}</Code><Message>no</Message>"
        f"<AWSAccessKeyId>{CREDENTIALS['AWS_ACCESS_KEY_ID']}</AWSAccessKeyId></Error>"
    )
    reply.status = status
    return reply


def _xml(text: str) -> Reply:
    return Reply(200, {"Content-Type": "application/xml"}, b'<?xml version="1.0"?>' + text.encode())


@contextmanager
def standin() -> Iterator[Standin]:
    """A stand-in that listens on loopback."""
    bucket = Standin()
    handler: Any = type("Handler", (_Handler,), {"standin": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    bucket.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
