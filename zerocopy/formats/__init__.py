"""The shapes of a response: each format is a function from `Plan` to `Representation`.

Values in, values out. A format opens no file and knows no protocol.
"""
