"""The client on the command line: a file or a table of what a server has."""
