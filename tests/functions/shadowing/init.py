"""A module of the function with the name of pipe-init's source folder."""

NAME = "init of the function"
