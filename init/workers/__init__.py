"""Start worker processes and exchange frames with them. It does not know why one is started or ended."""
