"""The kernel's interface: processes, signals, descriptors. It has no notion of requests."""
