"""A plain parallel download by obstore, in a process of its own: the peer of a cold stream.

`python -m bench.store_download ENDPOINT PREFIX DIRECTORY THREADS [md5]` lists a prefix, and has
threads take the objects whose key has `price` one by one: get, stream, write into a file. Nothing
is forced to the disk, and nothing is checked but, with `md5`, the ETag. Prints bytes, seconds and
processor seconds, without the start of the process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.store import S3Store

from tests.standin import BUCKET

CHUNK_BYTES = 1 << 20


def main(endpoint: str, prefix: str, directory: str, threads: str, check: str = "") -> None:
    """Download all of it."""
    store = S3Store(BUCKET, endpoint=endpoint, client_options={"allow_http": True})
    os.makedirs(directory)

    def download(key: str) -> int:
        path, count = os.path.join(directory, key.rpartition("/")[2]), 0
        digest = hashlib.md5(usedforsecurity=False)
        found = obstore.get(store, key)
        with open(path, "wb", buffering=0) as file:
            for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                count += file.write(chunk)
                if check:
                    digest.update(chunk)
        assert not check or found.meta["e_tag"] == f'"{digest.hexdigest()}"', key
        return count

    begun, cpu = time.monotonic(), os.times()
    keys = [meta["path"] for chunk in obstore.list(store, prefix) for meta in chunk]
    with ThreadPoolExecutor(int(threads)) as executor:
        nbytes = sum(executor.map(download, [key for key in keys if "/price." in key]))
    spent = os.times()
    cpu_s = spent.user - cpu.user + spent.system - cpu.system
    print(nbytes, time.monotonic() - begun, cpu_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
