"""Whether a data root keeps the rules of the layout: what is wrong, and what can be mended.

walk ──▶ series ──▶ day ──▶ scan        root and names, across days, one day, one file
           └─ findings ──▶ repair       write, fsync, rename
"""
