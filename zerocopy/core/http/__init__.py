"""The meaning of HTTP, as values: requests, responses, conditions, ranges. Nothing here reads or writes."""
