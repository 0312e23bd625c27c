"""It raises."""

raise ValueError("at import")
