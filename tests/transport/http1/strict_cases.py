"""What may be answered and kept alive, and what may not: bytes and verdicts by section of RFC 9112.

Owns what a verdict is, and the table of sections 2 to 5; `strict_framing_cases` has the others. A
verdict is the statuses that come, in order, and whether the connection goes on. HTTP/1.1 over TLS
decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass

TARGET_MAX, FIELD_MAX, FIELDS_MAX, HEAD_MAX, CONTENT_MAX = 8_192, 8_192, 100, 32_768, 65_536

OK = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
PARSED = frozenset({400, 414, 417, 431, 501, 505})
"""Statuses of what is no request: no route in this table gives them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Statuses in order, and whether a next request on the connection is answered."""

    statuses: tuple[int, ...]
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes and their verdict."""

    data: bytes
    verdict: Verdict


def head(*fields: bytes, line: bytes = b"GET /healthz HTTP/1.1", host: bytes = b"Host: t") -> bytes:
    """A request head; an empty `host` leaves Host out."""
    return b"\r\n".join([line, *((host,) if host else ()), *fields, b"", b""])


def kept(data: bytes, *statuses: int) -> Case:
    """Answered (200 where nothing is said), and the connection goes on."""
    return Case(data, Verdict(statuses or (200,), is_kept=True))


def closed(data: bytes, *statuses: int) -> Case:
    """Answered, and nothing behind it is."""
    return Case(data, Verdict(statuses or (200,), is_kept=False))


def bad(data: bytes, status: int = 400) -> Case:
    """Refused, and nothing behind it is answered."""
    return closed(data, status)


def target(value: bytes, method: bytes = b"GET") -> bytes:
    """A head with a target."""
    return head(line=b"%s %s HTTP/1.1" % (method, value))


def field(line: bytes) -> bytes:
    """A head with one more field line."""
    return head(line)


def sized(nbytes: int) -> bytes:
    """A head of exactly so many bytes, none of its fields too long."""
    fields = [b"F%d: " % index + b"x" * 6_000 for index in range(nbytes // 6_500)]
    rest = nbytes - len(head(*fields, b"Last: "))
    return head(*fields, b"Last: " + b"x" * rest)


MESSAGES: dict[str, dict[str, Case]] = {
    "2.2 message parsing": {
        "plain": kept(OK),
        "one empty line before": kept(b"\r\n" + OK),
        "eight empty lines before": kept(b"\r\n" * 8 + OK),
        "nine empty lines before": bad(b"\r\n" * 9 + OK),
        "empty lines between": Case(OK + b"\r\n\r\n" + OK, Verdict((200, 200), is_kept=True)),
        "CR before": bad(b"\r" + OK),
        "LF before": bad(b"\n" + OK),
        "CR CR LF before": bad(b"\r\r\n" + OK),
        "blank before": bad(b" " + OK),
        "blank line before": bad(b" \r\n" + OK),
        "bare LF everywhere": bad(OK.replace(b"\r\n", b"\n")),
        "bare LF after the request line": bad(OK.replace(b"1.1\r\n", b"1.1\n")),
        "bare LF after a field": bad(OK.replace(b"t\r\n", b"t\n", 1)),
        "bare LF at the end": bad(OK[:-2] + b"\n"),
        "LF CR": bad(OK.replace(b"\r\n", b"\n\r")),
        "CR without LF after the line": bad(OK.replace(b"1.1\r\n", b"1.1\r")),
        "CR in a value": bad(field(b"A: b\rC: d")),
        "CR CR LF after a field": bad(field(b"A: b\r")),
        "blank before the first field": bad(head(b"A: b", host=b" Host: t")),
        "blank line before the first field": bad(head(b"Host: t", host=b" ")),
        "tab before the first field": bad(head(b"Host: t", host=b"\tA: b")),
        "no request at all": bad(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"),
        "NUL": bad(b"\0" + OK),
        "byte order mark": bad(b"\xef\xbb\xbf" + OK),
        "response": bad(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    },
    "2.3 version": {
        "1.2 is 1.1": kept(head(line=b"GET /healthz HTTP/1.2")),
        "1.9 is 1.1": kept(head(line=b"GET /healthz HTTP/1.9")),
        "1.9 must have Host": bad(head(line=b"GET /healthz HTTP/1.9", host=b"")),
        "1.9 with content": kept(head(b"Content-Length: 2", line=b"GET /healthz HTTP/1.9") + b"ab"),
        "1.0": closed(head(line=b"GET /healthz HTTP/1.0")),
        "2.0": bad(head(line=b"GET /healthz HTTP/2.0"), 505),
        "3.0": bad(head(line=b"GET /healthz HTTP/3.0"), 505),
        "9.9": bad(head(line=b"GET /healthz HTTP/9.9"), 505),
        "preface of HTTP/2": bad(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        "0.9 by name": bad(head(line=b"GET /healthz HTTP/0.9")),
        "0.9": bad(b"GET /healthz\r\n"),
        "no minor": bad(head(line=b"GET /healthz HTTP/1")),
        "two digits": bad(head(line=b"GET /healthz HTTP/1.10")),
        "leading zero": bad(head(line=b"GET /healthz HTTP/01.1")),
        "lower case": bad(head(line=b"GET /healthz http/1.1")),
        "other protocol": bad(head(line=b"GET /healthz RTSP/1.0")),
        "protocol of ICE": bad(head(line=b"GET /healthz ICE/1.0")),
        "comma": bad(head(line=b"GET /healthz HTTP/1,1")),
        "with blank": bad(head(line=b"GET /healthz HTTP/ 1.1")),
    },
    "3 request line": {
        "two blanks after the method": bad(head(line=b"GET  /healthz HTTP/1.1")),
        "two blanks after the target": bad(head(line=b"GET /healthz  HTTP/1.1")),
        "tab": bad(head(line=b"GET\t/healthz HTTP/1.1")),
        "vertical tab": bad(head(line=b"GET\x0b/healthz HTTP/1.1")),
        "blank at the end": bad(head(line=b"GET /healthz HTTP/1.1 ")),
        "blank in the target": bad(head(line=b"GET /healthz /x HTTP/1.1")),
        "no target": bad(head(line=b"GET HTTP/1.1")),
        "empty target": bad(head(line=b"GET  HTTP/1.1")),
        "method is no token": bad(head(line=b"G(T /healthz HTTP/1.1")),
        "method with colon": bad(head(line=b"GET: /healthz HTTP/1.1")),
        "other method": kept(target(b"/healthz", b"POST"), 405),
        "unknown method": kept(target(b"/healthz", b"FROB"), 405),
        "method of WebDAV": kept(target(b"/healthz", b"PROPFIND"), 405),
        "method of UPnP": kept(target(b"/healthz", b"M-SEARCH"), 405),
        "method of RTSP": kept(target(b"/healthz", b"DESCRIBE"), 405),
        "lower-case method": kept(target(b"/healthz", b"get"), 405),
        "method of odd characters": kept(target(b"/healthz", b"!#$%&'*+-.^_`|~0aZ"), 405),
        "HEAD": kept(target(b"/healthz", b"HEAD")),
        "HEAD with a fault": bad(target(b"/healthz", b"HEAD").replace(b"t:", b"t :")),
    },
    "3.2 target": {
        "raw characters of clients": kept(target(b"/healthz?^|{}<>\"\\`[]@!$&'()*+,;=:~")),
        "fragment": bad(target(b"/healthz#x")),
        "fragment in the query": bad(target(b"/healthz?a#x")),
        "NUL": bad(target(b"/healthz?\0")),
        "control": bad(target(b"/healthz?\x01")),
        "DEL": bad(target(b"/healthz?\x7f")),
        "not ASCII": bad(target(b"/healthz?\xc3\xa9")),
        "two slashes": kept(target(b"//healthz"), 404),
        "no slash": bad(target(b"healthz")),
        "query alone": bad(target(b"?a")),
        "absolute": kept(target(b"http://t/healthz")),
        "absolute with another host": kept(target(b"http://other:80/healthz")),
        "absolute with query and no path": kept(target(b"http://t?a")),
        "absolute, upper case": kept(target(b"HTTPS://T/healthz")),
        "absolute with IPv6": kept(target(b"http://[::1]:80/healthz")),
        "absolute with an empty port": kept(target(b"http://t:/healthz")),
        "absolute without authority": bad(target(b"http:///healthz")),
        "absolute with a port alone": bad(target(b"http://:80/healthz")),
        "absolute with user": bad(target(b"http://u@t/healthz")),
        "absolute with user and password": bad(target(b"http://u:p@t/healthz")),
        "absolute with a port too high": bad(target(b"http://t:65536/healthz")),
        "absolute with a port of letters": bad(target(b"http://t:http/healthz")),
        "absolute with a bad literal": bad(target(b"http://[::g]/healthz")),
        "absolute with a blank encoded": kept(target(b"http://a%20b/healthz")),
        "absolute with half an encoding": bad(target(b"http://a%2/healthz")),
        "absolute with backslash": bad(target(b"http://t\\healthz")),
        "absolute with fragment": bad(target(b"http://t/healthz#x")),
        "absolute, other scheme": bad(target(b"ftp://t/healthz")),
        "absolute, no slashes": bad(target(b"http:/healthz")),
        "absolute without Host": bad(head(line=b"GET http://t/healthz HTTP/1.1", host=b"")),
        "absolute with an invalid Host": bad(
            head(line=b"GET http://t/healthz HTTP/1.1", host=b"Host: a b")
        ),
        "asterisk": kept(target(b"*", b"OPTIONS"), 204),
        "asterisk of the server": kept(target(b"http://t", b"OPTIONS"), 204),
        "asterisk with GET": bad(target(b"*")),
        "asterisk and more": bad(target(b"*x", b"OPTIONS")),
        "authority with GET": bad(target(b"t:80")),
        "authority": closed(target(b"t:443", b"CONNECT"), 404),
        "authority without port": bad(target(b"t", b"CONNECT")),
        "authority with an empty port": bad(target(b"t:", b"CONNECT")),
        "authority with port 0": bad(target(b"t:0", b"CONNECT")),
        "authority with a port too high": bad(target(b"t:65536", b"CONNECT")),
        "CONNECT with a path": bad(target(b"/healthz", b"CONNECT")),
        "CONNECT in absolute-form": bad(target(b"http://t:80/", b"CONNECT")),
        "CONNECT with a request inside": closed(
            head(b"Content-Length: %d" % len(OK), line=b"CONNECT t:1 HTTP/1.1") + OK, 404
        ),
    },
    "3.2 Host": {
        **{
            f"valid {host!r}": kept(head(host=b"Host: " + host))
            for host in (
                b"t",
                b"t:80",
                b"t:",
                b"t:65535",
                b"t:00080",
                b"127.0.0.1",
                b"127.0.0.1:",
                b"[::1]",
                b"[::1]:80",
                b"[::ffff:1.2.3.4]",
                b"[1:2:3:4:5:6:7:8]",
                b"[2001:db8::]",
                b"[v1.a:b]",
                b"",
                b"a_b-c.d~e",
                b"t,t",
                b"%41",
                b"A.B.",
            )
        },
        **{
            f"invalid {host!r}": bad(head(host=b"Host: " + host))
            for host in (
                b"t t",
                b"t/",
                b"/",
                b"u@t",
                b"t:x",
                b"t:80x",
                b"t:-1",
                b"t:+1",
                b"t:65536",
                b"t:" + b"9" * 5_000,
                b"t:80:80",
                b":80",
                b":",
                b"::1",
                b"[::1",
                b"::1]",
                b"[]",
                b"[::g]",
                b"[1:2]",
                b"[1::2::3]",
                b"[1:2:3:4:5:6:7:8:9]",
                b"[:::]",
                b"[12345::]",
                b"[1.2.3.4]",
                b"[::1.2.3.256]",
                b"[1.2.3.4::]",
                b"[fe80::1%25eth0]",
                b"[v.a]",
                b"[::1]x",
                b"x[::1]",
                b"t, t",
                b"http://t",
                b"t?",
                b"t#",
                b"t\\",
                b"%4",
                b"%zz",
                b"\xc3\xa9",
                b'"t"',
                b"<t>",
                b"t\tt",
            )
        },
        "none": bad(head(host=b"")),
        "none in 1.0": closed(head(line=b"GET /healthz HTTP/1.0", host=b"")),
        "two": bad(head(b"Host: t")),
        "two, one empty": bad(head(b"Host:")),
        "two in 1.0": bad(head(b"Host: t", line=b"GET /healthz HTTP/1.0")),
        "two, one in upper case": bad(head(b"HOST: t")),
        "invalid in 1.0": bad(head(line=b"GET /healthz HTTP/1.0", host=b"Host: a b")),
        "blanks around": kept(head(host=b"Host: \t t \t")),
    },
    "5 field lines": {
        "no colon": bad(field(b"A")),
        "colon alone": bad(field(b":")),
        "empty name": bad(field(b": a")),
        "blank before the colon": bad(field(b"A : b")),
        "tab before the colon": bad(field(b"A\t: b")),
        "length with blank before the colon": bad(head(b"Content-Length : 3") + b"abc"),
        "blank in the name": bad(field(b"A B: c")),
        "name is no token": bad(field(b"A(B): c")),
        "name not ASCII": bad(field(b"\xc3\xa9: c")),
        "NUL in the name": bad(field(b"A\0: c")),
        "name of odd characters": kept(field(b"!#$%&'*+-.^_`|~0aZ: b")),
        "empty value": kept(field(b"A:")),
        "no blank after the colon": kept(field(b"A:b")),
        "colons in the value": kept(field(b"A: b: c")),
        "blanks around the value": kept(field(b"A: \t b \t")),
        "obs-text": kept(field(b"A: \xff\x80")),
        "tab in the value": kept(field(b"A: b\tc")),
        **{
            f"control {code:#x} in the value": bad(field(b"A: b%cc" % code))
            for code in (0, 1, 8, 11, 12, 13, 27, 31, 127)
        },
        "LF in the value": bad(field(b"A: b\nc: d")),
        "folded with a blank": bad(field(b"A: b\r\n c")),
        "folded with a tab": bad(field(b"A: b\r\n\tc")),
        "folded to nothing": bad(field(b"A: b\r\n ")),
        "folded length": bad(field(b"Content-Length:\r\n 3") + b"abc"),
        "target at the bound": kept(target(b"/healthz?" + b"x" * (TARGET_MAX - 9))),
        "target above the bound": bad(target(b"/healthz?" + b"x" * (TARGET_MAX - 8)), 414),
        "target far above": bad(target(b"/" + b"x" * 100_000), 414),
        "field at the bound": kept(field(b"A: " + b"x" * (FIELD_MAX - 1))),
        "target that never ends": bad(b"GET /" + b"x" * 40_000, 414),
        "field that never ends": bad(b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, 431),
        "field above the bound": bad(field(b"A: " + b"x" * FIELD_MAX), 431),
        "fields at the bound": kept(head(*[b"A: b"] * (FIELDS_MAX - 1))),
        "fields above the bound": bad(head(*[b"A: b"] * FIELDS_MAX), 431),
        "head at the bound": kept(sized(HEAD_MAX)),
        "head above the bound": bad(sized(HEAD_MAX + 1), 431),
        "head far above": bad(sized(2 * HEAD_MAX), 431),
    },
}
