"""Carry out one call of the function: an event in, an outcome out. It does not know descriptors or frames."""
