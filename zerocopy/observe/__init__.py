"""What the server says of itself: the log, the access log, the metrics page."""
