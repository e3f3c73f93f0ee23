"""The commands: one file for each, with its options, its help text and its body.

A command that needs more files has a folder: `doctor/`, `status/`. The server imports no command.
The command line loads all of them each time, so a command imports what is slow to load in its
functions.
"""
