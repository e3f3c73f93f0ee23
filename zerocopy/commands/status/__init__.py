"""`zerocopy status`: a running server's state, from its metrics page."""
