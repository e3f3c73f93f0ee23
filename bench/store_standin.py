"""A store for `bench.store`, in a process of its own: `python -m bench.store_standin`.

Prints its port, and ends when its standard input does. Every object of a size has the same content,
so that thousands of them fit into memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.standin import standin
from zerocopy.core.layout import DAY_S, day_of, file_name

CLOSED_S = 1_700_000_000
"""When all of it was put there: long ago. Its last day is one of before."""

LAST_DAY = day_of(CLOSED_S - 30 * DAY_S)


def main() -> None:
    """Serve what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", help="serve these day files below p/")
    parser.add_argument("--days", type=int, default=0, help="and so many days of price")
    parser.add_argument("--bytes", type=int, default=0, help="of so many bytes each")
    parser.add_argument("--latency-s", type=float, default=0.0, help="wait before each object")
    given = parser.parse_args()
    with standin() as bucket:
        if given.root is not None:
            bucket.upload(given.root, "p/")
        content = {"time": bytes(given.bytes), "price": os.urandom(given.bytes)}
        for column in content if given.days else ():
            bucket.put(f"p/bench/COLD/MD/{column}", content[column], CLOSED_S)
            stored = bucket.objects.pop(f"p/bench/COLD/MD/{column}")
            for number in range(given.days):
                name = file_name(column, LAST_DAY - number)
                bucket.objects[f"p/bench/COLD/MD/{name}"] = stored
        if given.latency_s:
            bucket.fault = lambda _method, key: time.sleep(given.latency_s) if key else None
        print(bucket.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
