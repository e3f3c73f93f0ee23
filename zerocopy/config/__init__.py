"""config.toml, the environment and flags, read once into frozen tables.

`options.py` declares every option, `load.py` reads them, `descriptors.py` adds up descriptors.
"""
