"""HTTP/2 over TLS, inside Hypercorn, and HTTP/1.1 over TLS."""
