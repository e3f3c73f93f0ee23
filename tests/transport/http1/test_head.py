"""The head of a response, rendered once."""

from __future__ import annotations

from zerocopy.core.http.messages import Response
from zerocopy.transport.http1.head import render_head


def test_render_head_leaves_out_the_length_where_there_is_no_content() -> None:
    """204 has no Content-Length (RFC 9110 section 8.6), others always."""
    assert b"Content-Length" not in render_head(Response(204, ()))
    head = render_head(Response(404, ((b"A", b"b"),), b"xyz"))
    assert head == (b"HTTP/1.1 404 Not Found\r\nServer: zerocopy\r\nA: b\r\nContent-Length: 3\r\n")
