"""What the server reports of itself: the log, the access log, the metrics page.

Nothing here makes a request wait.
"""
