"""What a worker may use, and how the kernel holds it to that. It does not know requests."""
