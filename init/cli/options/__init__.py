"""Declare the options of a run. This folder does not know what effect they have on a function."""
