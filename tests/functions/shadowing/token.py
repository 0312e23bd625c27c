"""The function's own module of this name."""

NAME = "token of the function"
