"""GET / and what lies below /ui/: documents like any other, over every transport."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.contract.site import serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.site import Site
    from tests.contract.transports import Transport

KEPT = "public, max-age=31536000, immutable"


def assets_of(site: Site) -> list[str]:
    """What the page names."""
    page = site.ask("/").content.decode()
    return ["/" + name for name in re.findall(r'(?:href|src)="(ui/[^"]+)"', page)]


def test_page_is_html_with_a_strict_policy(site: Site) -> None:
    """Nothing from another origin, nothing inline, in no frame; the query does not matter."""
    for target in ("/", "/?utm=x"):
        answer = site.ask(target)
        assert answer.status == 200
        assert answer.fields["content-type"] == "text/html; charset=utf-8"
        assert answer.fields["cache-control"] == "no-cache"
        policy = answer.fields["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.fields["referrer-policy"] == "no-referrer"
        assert answer.fields["x-content-type-options"] == "nosniff"
        assert b"<script>" not in answer.content


def test_assets_are_kept_for_good_and_never_change(site: Site) -> None:
    """Every name in the page answers; its type is right, and a tag proves it unchanged."""
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assets = assets_of(site)
    assert len(assets) > 10
    for path in {next(a for a in assets if a.endswith(ending)) for ending in types}:
        answer = site.ask(path)
        assert answer.status == 200
        assert answer.fields["cache-control"] == KEPT
        assert answer.fields["content-type"].startswith(types[path.rpartition(".")[2]])
        assert answer.fields["x-content-type-options"] == "nosniff"
        assert int(answer.fields["content-length"]) == len(answer.content)
        again = site.ask(path, fields=[("If-None-Match", answer.fields["etag"])])
        assert (again.status, again.content) == (304, b"")


def test_methods_are_those_of_any_document(site: Site) -> None:
    """HEAD has the fields alone, OPTIONS is answered, others are told what is allowed."""
    for path in ("/", "/ui/zerocopy.js"):
        whole, head = site.ask(path), site.ask(path, method="HEAD")
        assert (head.status, head.content) == (200, b"")
        assert head.fields["content-length"] == str(len(whole.content))
        assert site.ask(path, method="OPTIONS").status == 204
        refused = site.ask(path, method="DELETE")
        assert refused.status == 405
        assert refused.fields["allow"] == "GET, HEAD, OPTIONS"


def test_client_is_there_for_other_pages(site: Site) -> None:
    """`import` of another origin needs CORS, and a name that stays."""
    answer = site.ask("/ui/zerocopy.js")
    assert answer.fields["access-control-allow-origin"] == "*"
    assert answer.fields["cache-control"] == "no-cache"
    assert b"export class Client" in answer.content
    assert site.ask("/ui/zerocopy.d.ts").status == 200


def test_other_names_are_404(site: Site) -> None:
    """No folder is listed, no name is guessed, nothing outside is reached."""
    for path in ("/ui", "/ui/", "/ui/app.js", "/ui/app.0000000000000000.js", "/ui/../page.py",
                 "/ui/%2e%2e/zerocopy.js", "/index.html", "/ui/uplot.LICENSE"):  # fmt: skip
        answer = site.ask(path)
        assert answer.status == 404
        assert answer.fields["content-type"] == "application/problem+json"


def test_page_can_be_turned_off(transport: Transport, tmp_path: Path) -> None:
    """[server] page = false: its paths are 404, all others as before."""
    with serve(transport, str(tmp_path), ZEROCOPY_SERVER_PAGE="false") as site:
        assert site.ask("/").status == 404
        assert site.ask("/ui/zerocopy.js").status == 404
        assert site.ask("/healthz").status == 200
