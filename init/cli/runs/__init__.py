"""Carry out a run, from its events to its exit code. It does not know options."""
