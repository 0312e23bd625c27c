"""A module of the function with the name of a package that pipe-init needs."""

NAME = "click of the function"
