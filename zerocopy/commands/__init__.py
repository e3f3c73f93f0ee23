"""The commands: one module for each, one folder for `doctor` and one for `status`.

The server imports none of them.
"""
