"""A function whose module imports one that is not there."""

import no_such_module_anywhere  # noqa: F401  # <- needs_missing


def handler(event, context):
    return event
