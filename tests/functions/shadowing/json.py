"""A module of the function with the name of a module of the standard library."""

NAME = "json of the function"
