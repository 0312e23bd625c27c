"""A function in a package of several files."""
