"""What is appended to day files, as it is appended: the look at a day, and who tells of changes."""
