"""Live streams: who reads what, one look and one message for all of them."""
