"""The page's files as responses: names, fields, and what they call each other."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from zerocopy.service.page import CONTENT_SECURITY_POLICY, documents_of, page_documents

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response

HTML = b'<link href="a.css"><script src="app.js"></script><a href="https://example.com/x.js">x</a>'
FILES = {
    "ui/index.html": HTML,
    "ui/a.css": b"a{}",
    "ui/app.js": b'import {x} from "./x.js";\nimport "../zerocopy.js";\nconst y = import("./x.js")',
    "ui/x.js": b'export * from "../zerocopy.js"; export const x = "./x.js"',
    "zerocopy.js": b"export const client = 1",
}


def field(documents: dict[bytes, Response], path: bytes, name: bytes) -> bytes:
    """One field of a document."""
    return dict(documents[path].fields)[name]


def name_of(content: bytes, stem: str) -> bytes:
    """What a file is called."""
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return f"{stem}.{digest}.js".encode()


def test_imports_are_rewritten_from_the_leaves_up() -> None:
    """Each file names the others by the hash of their final bytes, and strings stay as they are."""
    documents = documents_of(FILES)
    client = name_of(FILES["zerocopy.js"], "zerocopy")
    x = b'export * from "./%s"; export const x = "./x.js"' % client
    x_name = name_of(x, "x")
    app = b'import {x} from "./%s";\nimport "./%s";\nconst y = import("./%s")' % (
        x_name, client, x_name,
    )  # fmt: skip
    assert documents[b"/ui/" + x_name].content == x
    assert documents[b"/ui/" + name_of(app, "app")].content == app
    page = documents[b"/"].content
    assert b'src="ui/%s"' % name_of(app, "app") in page
    assert b'href="https://example.com/x.js"' in page


def test_changed_leaf_renames_what_imports_it() -> None:
    """A browser that keeps files for a year never meets two versions of them together."""
    before = set(documents_of(FILES))
    after = set(documents_of({**FILES, "zerocopy.js": b"export const client = 2"}))
    stems = {name.split(b".")[0] for name in before - after}
    assert stems == {b"/ui/app", b"/ui/x", b"/ui/zerocopy"}


def test_client_has_a_stable_path_as_well() -> None:
    """Other pages import /ui/zerocopy.js; it is asked for anew, the hashed one is kept."""
    documents = documents_of(FILES)
    hashed = b"/ui/" + name_of(FILES["zerocopy.js"], "zerocopy")
    assert documents[b"/ui/zerocopy.js"].content == documents[hashed].content
    assert field(documents, b"/ui/zerocopy.js", b"Cache-Control") == b"no-cache"
    assert field(documents, hashed, b"Cache-Control") == b"public, max-age=31536000, immutable"


def test_broken_names_are_our_own_error() -> None:
    """A file that is not there, a circle, or two files of one name stop the start."""
    with pytest.raises(AssertionError, match="is not among the files"):
        documents_of({**FILES, "ui/x.js": b'import "./gone.js"'})
    with pytest.raises(AssertionError, match="imports itself"):
        documents_of({**FILES, "ui/x.js": b'import "./app.js"'})
    with pytest.raises(AssertionError, match="another file has this name"):
        documents_of({**FILES, "vendor/a.css": b"a{}"})


def test_files_of_the_package_say_what_they_are() -> None:
    """Each has its type, a tag, nosniff and CORS; the HTML has a policy and no inline code."""
    documents = page_documents()
    for path, document in documents.items():
        fields = dict(document.fields)
        assert fields[b"X-Content-Type-Options"] == b"nosniff"
        assert fields[b"Access-Control-Allow-Origin"] == b"*"
        assert document.validators is not None
        assert fields[b"ETag"] == document.validators.etag
        if path.endswith(b".js"):
            assert fields[b"Content-Type"] == b"text/javascript; charset=utf-8"
    fields, content = dict(documents[b"/"].fields), documents[b"/"].content
    assert fields[b"Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert b"unsafe" not in CONTENT_SECURITY_POLICY
    assert fields[b"Referrer-Policy"] == b"no-referrer"
    assert not re.search(rb"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", content)


def test_html_names_every_module_there_is() -> None:
    """It preloads what the modules import, so that a browser needs one round trip, not four."""
    documents = page_documents()
    named = set(re.findall(rb'(?:href|src)="(ui/[^"]+)"', documents[b"/"].content))
    hashed = {path[1:] for path in documents if path.count(b".") >= 2 and path.endswith(b".js")}
    assert hashed <= named
