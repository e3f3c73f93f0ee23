"""Where a client's key comes from, and whether it may go where the client asks.

Owns the order and the rule: a key goes to the server it was given for, and to no other.

| key | was given for | over plain HTTP |
|---|---|---|
| `key=`, `--key` | the client's url | yes: whoever wrote both asked for it |
| `$ZEROCOPY_KEY`, and `$ZEROCOPY_URL` is set | that server: scheme, host and port | yes, likewise |
| `$ZEROCOPY_KEY` alone | any url | to this machine only |
| `machine` of netrc, `login zerocopy` | that host | to this machine only |

netrc is `$NETRC`, else `~/.netrc`. Its `default` entry is for any host, so it is never a key.
"""

from __future__ import annotations

import ipaddress
import netrc
import os
import re
import stat
from typing import NamedTuple

from zerocopy.client.errors import BadRequest

LOGIN = "zerocopy"
"""Of the entries of netrc that hold a key; others are passwords of other services."""

_KEY = re.compile(r"[!-~]+")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NONE_GIVEN = "give a key as key=, in ZEROCOPY_KEY or in ~/.netrc"


class Found(NamedTuple):
    """A key to send; or none, and what a refusal for want of one should add."""

    key: str | None
    hint: str


def find_key(given: str | None, host: str, *, is_tls: bool, is_told: bool | None) -> Found:
    """The key for a server.

    `given` is the argument. `is_told`: whether `$ZEROCOPY_URL` names this server, None where it is
    not set.

    >>> find_key("mine", "data.example.com", is_tls=True, is_told=None).key
    'mine'

    Raises:
        BadRequest: a key is none, or others may read the file it is in.
    """
    if given is not None:
        return Found(_checked(given), "")
    hint = _NONE_GIVEN
    is_private = is_tls or is_loopback(host)
    of_environ = os.environ.get("ZEROCOPY_KEY") or None
    if of_environ is not None and is_told is False:
        hint = "ZEROCOPY_KEY was not sent: it is for the server of ZEROCOPY_URL"
    elif of_environ is not None and not (is_private or is_told):
        return Found(None, _in_the_clear("ZEROCOPY_KEY"))
    elif of_environ is not None:
        return Found(_checked(of_environ), "")
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    of_netrc = _of_netrc(path, host)
    if of_netrc is None:
        return Found(None, hint)
    if not is_private:
        return Found(None, _in_the_clear(path))
    return Found(_checked(of_netrc), "")


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine: RFC 6761 section 6.3, RFC 1122.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("192.168.0.1")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _in_the_clear(where: str) -> str:
    return (
        f"the key of {where} was not sent, for others could read it on the way: use https, or give "
        "it as key="
    )


def _checked(key: str) -> str:
    """http.client would show a key that it refuses."""
    if _KEY.fullmatch(key) is None:
        raise BadRequest("key: must be printable ASCII without spaces")
    return key


def _of_netrc(path: str, host: str) -> str | None:
    """The password of `host` and `LOGIN` in the file at `path`.

    A file that is not there, or that nobody may read, has none. One without the word `LOGIN` is
    another program's affair, whatever is wrong with it.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # a pipe would be waited for
            return None
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if LOGIN not in file.read():
                return None
        hosts = netrc.netrc(path).hosts
    except OSError:
        return None
    except (netrc.NetrcParseError, UnicodeDecodeError) as error:
        # Its own message quotes a word of the file, which may be a password.
        line = getattr(error, "lineno", None)
        raise BadRequest(f"{path}: line {line}: not as netrc has it") from None
    named = {name.lower(): entry for name, entry in hosts.items() if name != "default"}
    login, _, password = named.get(host, ("", "", ""))
    if login != LOGIN:
        return None
    if mode & _OTHERS:
        raise BadRequest(f"{path}: others may use it, and it holds a key: chmod 600 {path}")
    return password
