"""What several test files share and is no fixture; not installed, found through pytest's `pythonpath`."""
