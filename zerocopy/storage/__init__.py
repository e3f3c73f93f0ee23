"""The data root: its directories, day files, mappings and page cache, and plans made of them.

It knows files, and neither sockets nor the event loop.
"""
