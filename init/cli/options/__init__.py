"""Declare the options of a run. This folder does not know what they mean for a function."""
