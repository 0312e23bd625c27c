"""Find the callable that a handler's name means. It does not know frames."""
