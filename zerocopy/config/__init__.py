"""config.toml, the environment and flags, as frozen tables."""
