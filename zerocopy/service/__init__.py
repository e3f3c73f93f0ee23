"""What is asked: routes, and the response to each."""
