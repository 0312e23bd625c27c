"""Carry out a run, from reading its events to its exit code."""
