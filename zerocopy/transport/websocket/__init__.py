"""WebSocket, RFC 6455, on the server's side: bytes in, bytes out, no socket.

Owns the opening handshake (`opening.py`), the frames that leave (`frames.py`) and what a client
sends (`inbox.py`). Nothing that a client says in a WebSocket changes what it is sent, but that it
closes: its pings are answered, its messages are read and dropped. No extension and no subprotocol
is negotiated.
"""
