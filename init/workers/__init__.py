"""Start worker processes, and exchange frames with them. It does not know why a worker is started or ended."""
