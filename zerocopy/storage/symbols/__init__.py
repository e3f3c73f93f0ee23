"""The symbols below the root, and when each was last written: a walk, or a watched tree."""
