"""What is asked: routes, and the response to each.

It composes queries, plans, formats and kept responses, and uses threads. It knows no socket.
"""
