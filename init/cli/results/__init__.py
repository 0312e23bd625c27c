"""Outcomes as text: results, errors, hints. It does not know workers."""
