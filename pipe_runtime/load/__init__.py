"""Find the callable that a handler's name stands for. It must not know frames."""
