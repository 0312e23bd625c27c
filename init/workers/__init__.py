"""Starts worker processes and speaks frames with them. It does not know why one is started or ended."""
