"""Day files of an object store, fetched whole into a local directory of the same layout.

`objectstore.py` speaks to the store, `cache.py` owns the directory, `fetching.py` brings files from
one into the other, `listings.py` knows what there is, `planner.py` plans from that.
"""
