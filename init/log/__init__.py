"""What people read: log lines around requests, and where they go. It does not know workers."""
