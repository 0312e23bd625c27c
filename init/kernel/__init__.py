"""Use the kernel: processes, signals, descriptors. It has no notion of requests."""
