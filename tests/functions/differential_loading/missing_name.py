"""It names what is not there in a module that is."""

from json import no_such_name  # noqa: F401
