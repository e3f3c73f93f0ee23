"""Values in, values out: names, days, queries, plans, windows, counters, errors.

It touches nothing outside: no os, socket, mmap, asyncio, time or logging.
"""
