"""The TLS listener: HTTP/2 inside Hypercorn, and HTTP/1.1 by h11 behind our reader of heads."""
