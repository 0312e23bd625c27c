"""Start worker processes, and exchange frames with them. This folder does not know why a worker is started or ended."""
