"""The function's own module of this name."""

NAME = "click of the function"
