"""HTTP/2 on a channel: Hypercorn's protocol, with frames, bounds and a fast lane of our own."""
