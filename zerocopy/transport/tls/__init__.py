"""TLS on sockets of our own: handshakes, the channel that encrypts, and the listener.

Owns everything that knows `ssl`. The protocols above work on a `Channel` and do not know that it
encrypts.
"""
