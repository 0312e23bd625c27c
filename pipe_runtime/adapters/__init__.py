"""Connect functions that are more than a plain handler. Each module is loaded only for such a function."""
