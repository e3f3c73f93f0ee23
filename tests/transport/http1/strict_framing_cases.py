"""What frames a message and what becomes of its connection: the second half of the strict table."""

from __future__ import annotations

from tests.transport.http1.strict_cases import (
    CONTENT_MAX,
    MESSAGES,
    OK,
    Case,
    Verdict,
    bad,
    closed,
    field,
    head,
    kept,
    target,
)

CONTINUES = b"Expect: 100-continue"
CHUNKED = b"Transfer-Encoding: chunked"

FRAMING: dict[str, dict[str, Case]] = {
    "6.1 Transfer-Encoding": {
        "chunked": closed(head(CHUNKED) + b"1\r\na\r\n0\r\n\r\n"),
        "chunked, no content": closed(head(CHUNKED) + b"0\r\n\r\n"),
        "chunked in upper case": closed(head(b"TRANSFER-ENCODING: CHUNKED") + b"0\r\n\r\n"),
        "chunked with a request inside": closed(
            head(CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(OK), OK)
        ),
        "chunked with an extension": closed(head(CHUNKED) + b"3;a=b\r\nabc\r\n0\r\n\r\n"),
        "chunked with trailers": closed(head(CHUNKED) + b"0\r\nHost: evil\r\n\r\n"),
        "chunked without its end": closed(head(CHUNKED)),
        "chunk of a bad size": closed(head(CHUNKED) + b"-1\r\na\r\n0\r\n\r\n"),
        "chunk of a hex size": closed(head(CHUNKED) + b"0x1\r\na\r\n0\r\n\r\n"),
        "chunk too long": closed(head(CHUNKED) + b"1\r\nab\r\n0\r\n\r\n"),
        "with Content-Length": bad(head(CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n"),
        "after Content-Length": bad(head(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n"),
        "with Content-Length 0": bad(head(CHUNKED, b"Content-Length: 0") + b"0\r\n\r\n"),
        "in 1.0": bad(head(CHUNKED, line=b"GET /healthz HTTP/1.0") + b"0\r\n\r\n"),
        "in 1.0 kept": bad(
            head(CHUNKED, b"Connection: keep-alive", line=b"GET /healthz HTTP/1.0") + b"0\r\n\r\n"
        ),
        "two lines": bad(head(CHUNKED, CHUNKED) + b"0\r\n\r\n"),
        **{
            f"invalid {coding!r}": bad(head(b"Transfer-Encoding:" + coding) + b"0\r\n\r\n")
            for coding in (
                b"",
                b" ",
                b" identity",
                b" gzip",
                b" chunked, gzip",
                b" chunked, identity",
                b" chunked, chunked",
                b" xchunked",
                b" chunkedx",
                b" x chunked",
                b" chunked x",
                b" chunked;a=b",
                b' "chunked"',
                b" \x0bchunked",
                b" chunked\x0b",
                b" chunked\0",
                b" chunked,",
                b" ,chunked",
                b"\r\n chunked",
                b" chun\r\n ked",
                b' gzip;a="chunked"',
                b" \xc2\xa0chunked",
            )
        },
        "tab after chunked": bad(head(b"Transfer-Encoding: chunked\t") + b"0\r\n\r\n"),
        "name with blank": bad(head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n"),
        "other coding": bad(head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
        "other codings": bad(head(b"Transfer-Encoding: br, gzip,chunked") + b"0\r\n\r\n", 501),
        "other coding in two lines": bad(
            head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 501
        ),
        "chunked not last in two lines": bad(
            head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip") + b"0\r\n\r\n"
        ),
    },
    "6.2 Content-Length": {
        "0": kept(head(b"Content-Length: 0")),
        "3": kept(head(b"Content-Length: 3") + b"abc"),
        "blanks around": kept(head(b"Content-Length: \t3 \t") + b"abc"),
        "leading zeros": kept(head(b"Content-Length: 003") + b"abc"),
        "at the bound": kept(head(b"Content-Length: %d" % CONTENT_MAX) + b"x" * CONTENT_MAX),
        "above the bound": closed(head(b"Content-Length: %d" % (CONTENT_MAX + 1)) + OK),
        "2**63 - 1": closed(head(b"Content-Length: %d" % (2**63 - 1))),
        **{
            f"invalid {length[:24]!r}": bad(head(b"Content-Length:" + length) + b"abc")
            for length in (
                b"",
                b" ",
                b" +3",
                b" -3",
                b" -0",
                b" 0x3",
                b" 3.0",
                b" 3e0",
                b" 1_0",
                b" 3 3",
                b" 3, 3",
                b" 3,3",
                b" 3,",
                b" ,3",
                b" 3;",
                b' "3"',
                b" 3\0",
                b" 3\x0b",
                b" three",
                b"\r\n 3",
                b" 3\r\n 4",
                b" %d" % 2**63,
                b" %d" % 2**64,
                b" %d" % (2**64 + 3),
                b" " + b"9" * 5_000,
                b" " + b"0" * 4_999 + b"3",
                b" " + b"0" * 5_000,
                b" \xd9\xa3",
                b" \xb3",
            )
        },
        "twice, equal": bad(head(b"Content-Length: 3", b"Content-Length: 3") + b"abc"),
        "twice, not equal": bad(head(b"Content-Length: 3", b"Content-Length: 0") + b"abc"),
        "twice, one in upper case": bad(head(b"Content-Length: 3", b"CONTENT-LENGTH: 3") + b"abc"),
        "name with underscore is another": kept(head(b"Content_Length: 3")),
    },
    "6.3 content of GET and HEAD": {
        "request inside is content": kept(head(b"Content-Length: %d" % len(OK)) + OK),
        "request inside, then one": Case(
            head(b"Content-Length: %d" % len(OK)) + OK + OK, Verdict((200, 200), is_kept=True)
        ),
        "request inside HEAD": kept(
            head(b"Content-Length: %d" % len(OK), line=b"HEAD /healthz HTTP/1.1") + OK
        ),
        "request inside POST": kept(
            head(b"Content-Length: %d" % len(OK), line=b"POST /healthz HTTP/1.1") + OK, 405
        ),
        "request inside an unknown method": kept(
            head(b"Content-Length: %d" % len(OK), line=b"FROB /healthz HTTP/1.1") + OK, 405
        ),
        "request inside 1.0": closed(
            head(b"Content-Length: %d" % len(OK), line=b"GET /healthz HTTP/1.0") + OK
        ),
        "nothing is no content": Case(head() + OK, Verdict((200, 200), is_kept=True)),
    },
    "9.3 persistence": {
        "close": closed(head(b"Connection: close") + OK),
        "Close": closed(head(b"CONNECTION: CLOSE") + OK),
        "close in a list": closed(head(b"Connection: x , close,y") + OK),
        "close in the second line": closed(head(b"Connection: x", b"Connection: close") + OK),
        "close wins": closed(head(b"Connection: close, keep-alive") + OK),
        "close wins when last": closed(head(b"Connection: keep-alive", b"Connection: close") + OK),
        "close with tabs": closed(head(b"Connection: x,\tclose\t") + OK),
        "closed is not close": kept(head(b"Connection: closed")),
        "quoted is not close": kept(head(b'Connection: "close"')),
        "keep-alive": kept(head(b"Connection: keep-alive")),
        "empty": kept(head(b"Connection:")),
        "empty elements": kept(head(b"Connection: , ,")),
        "Proxy-Connection": kept(head(b"Proxy-Connection: close")),
        "Keep-Alive": kept(head(b"Keep-Alive: timeout=1, max=1")),
        "length nominated": kept(
            head(b"Connection: content-length", b"Content-Length: 3") + b"abc"
        ),
        "chunked nominated": closed(
            head(b"Connection: transfer-encoding", CHUNKED) + b"0\r\n\r\n" + OK
        ),
        "host nominated": kept(head(b"Connection: host")),
        "1.0 kept": Case(
            head(b"Connection: keep-alive", line=b"GET /healthz HTTP/1.0"),
            Verdict((200,), is_kept=True),
        ),
        "1.0 kept, close wins": closed(
            head(b"Connection: close, keep-alive", line=b"GET /healthz HTTP/1.0") + OK
        ),
        "1.0 kept, close wins when last": closed(
            head(b"Connection: keep-alive, close", line=b"GET /healthz HTTP/1.0") + OK
        ),
        "1.0 with Proxy-Connection": closed(
            head(b"Proxy-Connection: keep-alive", line=b"GET /healthz HTTP/1.0") + OK
        ),
        "TE": kept(head(b"TE: trailers, gzip;q=0.5", b"Connection: TE")),
        "Trailer": kept(head(b"Trailer: Content-Length")),
        "Upgrade": kept(head(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")),
        "Upgrade to WebSocket": kept(
            head(
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            )
        ),
        "Upgrade with content": kept(
            head(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: %d" % len(OK)) + OK
        ),
    },
    "10.1.1 of RFC 9110, Expect": {
        "without content": kept(head(CONTINUES)),
        "in upper case": kept(head(b"EXPECT: 100-CONTINUE")),
        "with content": kept(head(CONTINUES, b"Content-Length: 3") + b"abc"),
        "with content too long": closed(head(CONTINUES, b"Content-Length: 65537") + OK),
        "with 1.0": closed(head(CONTINUES, line=b"GET /healthz HTTP/1.0")),
        "other": bad(head(b"Expect: 200-ok"), 417),
        "list": bad(head(b"Expect: 100-continue, x"), 417),
        "two lines, one other": bad(head(CONTINUES, b"Expect: x"), 417),
        "other with content": bad(head(b"Expect: x", b"Content-Length: %d" % len(OK)) + OK, 417),
        "empty": kept(head(b"Expect:")),
        "list of the same": kept(head(b"Expect: 100-continue, 100-Continue ,")),
    },
    "9.3.2 pipelining": {
        "three": Case(OK * 3, Verdict((200, 200, 200), is_kept=True)),
        "in order": Case(
            OK + target(b"/nowhere") + target(b"*", b"OPTIONS") + target(b"/healthz", b"PUT"),
            Verdict((200, 404, 204, 405), is_kept=True),
        ),
        "fault last": closed(OK + target(b"/nowhere") + b"garbage\r\n\r\n" + OK, 200, 404, 400),
        "fault after content": closed(
            head(b"Content-Length: 3") + b"abc" + b"X\r\n\r\n" + OK, 200, 400
        ),
        "one more byte of content": closed(head(b"Content-Length: 3") + b"abc(" + OK, 200, 400),
        "two faults": closed(OK + field(b"A : b") + field(b"A : b") + OK, 200, 400),
        "fault of a version": closed(OK + head(line=b"GET / HTTP/2.0") + OK, 200, 505),
        "fault of a coding": closed(OK + head(b"Transfer-Encoding: x, chunked") + OK, 200, 501),
        "fault of an expectation": closed(OK + head(b"Expect: x") + OK, 200, 417),
        "fault of a long field": closed(OK + field(b"A: " + b"x" * 9_000) + OK, 200, 431),
        "fault of a long target": closed(OK + target(b"/" + b"x" * 9_000) + OK, 200, 414),
        "fault of HEAD": closed(OK + target(b"/a#", b"HEAD") + OK, 200, 400),
        "close amid": closed(OK + head(b"Connection: close") + OK, 200, 200),
        "close, then garbage": closed(head(b"Connection: close") + b"\0\0garbage"),
    },
}

SECTIONS = MESSAGES | FRAMING
"""Every case, by section of RFC 9112 (where it says so, of RFC 9110)."""
