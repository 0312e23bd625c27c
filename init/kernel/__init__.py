"""Use the kernel's processes, signals and descriptors. This folder does not know requests."""
