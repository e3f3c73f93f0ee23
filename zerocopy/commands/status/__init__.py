"""`zerocopy status`: the state of a running server, read from its metrics page."""
