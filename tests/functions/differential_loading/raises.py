"""A module that raises an exception while it is loaded."""

raise ValueError("at import")
