"""What Python, OpenSSL and the kernel do together with kernel TLS: one line of JSON a fact.

`python -m tests.ktls -m tests.ktls.guest.facts [NAME …]` prints them. A fact is a function of
`sending` or `session`: its name is the fact's, and its first line the question.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import traceback
from typing import TYPE_CHECKING, Any

from tests.ktls.guest import sending, session

if TYPE_CHECKING:
    from collections.abc import Callable


def versions() -> Any:
    """What is this machine?"""
    with open("/proc/sys/net/ipv4/tcp_available_ulp", encoding="ascii") as file:
        ulp = file.read().split()
    return {
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        "OP_ENABLE_KTLS": hasattr(ssl, "OP_ENABLE_KTLS"),
        "kernel": os.uname().release,
        "tcp_available_ulp": ulp,
    }


FACTS: list[Callable[[], Any]] = [versions, *session.FACTS, *sending.FACTS]


def main(names: list[str]) -> None:
    """Print the facts of these names, or all."""
    for fact in FACTS:
        if names and fact.__name__ not in names:
            continue
        try:
            found = fact()
        except Exception as error:  # noqa: BLE001  # the others are still to be known
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps({fact.__name__: found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
