"""Files: the catalog of days, open day files, symbols with their recency."""
