"""Bridges to functions that are more than a plain handler. Each is loaded only for such a function."""
