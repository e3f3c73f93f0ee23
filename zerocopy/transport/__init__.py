"""Protocols and channels: bytes to requests, responses to bytes.

It owns accepted sockets, deadlines, turns and the sending of bodies. It knows neither paths nor
markets. What all protocols share is here; `http1/` and `http2/` import it, never each other's
connections.
"""
