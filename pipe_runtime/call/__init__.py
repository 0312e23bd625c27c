"""Carry out one call of the function: turn an event into an outcome. It must not know descriptors, or how frames
are made."""
