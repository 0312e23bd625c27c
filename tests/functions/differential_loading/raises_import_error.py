"""It raises an error of the import system."""

raise ImportError("own text", name="own")
