"""Share helpers among the test files. They are not fixtures and not installed: pytest's `pythonpath` finds them."""
