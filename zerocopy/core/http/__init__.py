"""The meaning of HTTP as values: requests and responses, preconditions, ranges, authorities.

It knows no connection and no clock; every protocol uses it.
"""
