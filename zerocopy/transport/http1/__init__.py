"""HTTP/1.1 on a channel: bytes to requests, responses to bytes.

`connection.py` owns the state, `sender.py` the turns, `reply.py` a request until its last byte.
"""
