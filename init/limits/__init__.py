"""Set limits that the kernel enforces on a worker's memory, processes, CPU and files. It does not know requests."""
