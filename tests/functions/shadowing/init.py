"""The function's own module of this name."""

NAME = "init of the function"
