"""Set what a worker may use, and have the kernel enforce it. It does not know requests."""
