"""Turn options into the function to run, and its limits. It does not know workers."""
