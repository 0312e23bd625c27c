"""A module that imports a missing name from a module that exists."""

from json import no_such_name  # noqa: F401
