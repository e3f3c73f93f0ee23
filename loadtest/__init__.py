"""Load tests: users of both paths who check every answer."""
