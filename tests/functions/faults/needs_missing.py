"""A function whose module imports a module that does not exist."""

import no_such_module_anywhere  # noqa: F401  # <- needs_missing


def handler(event, context):
    return event
