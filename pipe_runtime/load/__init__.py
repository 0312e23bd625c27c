"""From a handler's name to the callable. It does not know frames."""
