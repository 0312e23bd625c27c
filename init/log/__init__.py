"""Write the lines that people read: log lines, errors and reports of requests. It does not know workers."""
