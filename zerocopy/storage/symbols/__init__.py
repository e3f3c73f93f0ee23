"""The symbols below the root, and when each was last written: a watched tree, or a walk."""
