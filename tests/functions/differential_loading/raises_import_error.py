"""A module that raises an ImportError itself."""

raise ImportError("own text", name="own")
