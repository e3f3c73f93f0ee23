"""Getting data in: what exchanges and vendors publish becomes day files.

    sources → tables → recipe → convert → spill → daywriter
    (files)   (rows)   (which)  (records)  (by day)  (day files)

Owns the way of a row from a file in any form to its record. It may import `core` and `config`, and
polars where that is used (extra `zerocopy[import]`). It must never know the server.

A file is read as a whole before any of its rows is written: one bad line leaves the file out. A day
is written as a whole, under hidden names, and appears by renames, `time` last.
"""
