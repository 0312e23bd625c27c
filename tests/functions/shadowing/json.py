"""The function's own module of this name."""

NAME = "json of the function"
