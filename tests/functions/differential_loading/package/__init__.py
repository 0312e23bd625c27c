"""A package with a handler in one of its modules."""
