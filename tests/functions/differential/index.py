"""Call the handler that an event names: `{"case": "values.text", "event": …}` means CASES["text"] of values.py.

After each case the root logger is restored, so that the next case finds it as the runtime made it.
"""

import logging
from contextlib import contextmanager

import contexts
import logs
import process
import raising
import values

MODULES = {"contexts": contexts, "logs": logs, "process": process, "raising": raising, "values": values}


def handler(event, context):
    module, _, name = event["case"].partition(".")
    case = MODULES[module].CASES[name]
    with root_logger_restored():
        return case(event.get("event"), context)


@contextmanager
def root_logger_restored():
    root = logging.getLogger()
    before = [(handler, handler.formatter, handler.level, handler.filters[:]) for handler in root.handlers]
    level, disabled = root.level, logging.root.manager.disable
    try:
        yield
    finally:
        root.handlers[:] = [handler for handler, *_ in before]
        for handler, formatter, least, filters in before:
            handler.formatter, handler.level, handler.filters = formatter, least, filters
        root.setLevel(level)
        logging.disable(disabled)
