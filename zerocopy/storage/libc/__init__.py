"""What libc does for us by ctypes: it locks mapped pages, and keeps freed memory.

Owns calls that the standard library does not have; when they are made, others know.
"""
