"""Who asks: keys, tokens and tickets, and how much each may have.

Owns the proof of who somebody is and the counts of what was had; what a name may see is a `Scope`
of `core/access.py`. It knows files and the libraries of its field; no sockets of clients, no day
files.
"""
