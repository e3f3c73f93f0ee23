"""Sockets and the event loop: HTTP/1.1 over plain sockets, sendfile(2)."""
