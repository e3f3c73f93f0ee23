"""What the kernel tells of changed files: inotify(7), and on which file systems it tells of all.

Owns the calls and the tables; what is watched and what follows from it is for those who watch.
"""
