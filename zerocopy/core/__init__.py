"""Values in, values out: the rules of names, days, bounds, queries, plans and validators."""
