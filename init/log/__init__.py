"""Write what people read: log lines around requests. It does not know workers."""
