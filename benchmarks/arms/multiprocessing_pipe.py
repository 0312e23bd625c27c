"""Send the event over multiprocessing.Pipe: pickled to a child that calls the handler, and the result pickled back."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.connection import Connection

from .case import CODE_DIR, EVENT, HANDLER
from .driver import serve


class MultiprocessingPipe:
    """The parent's end. It puts the result in quotes, so that the answer is the same as with the other arms."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.connection))
        self.process.start()
        theirs.close()
        self.event = json.loads(EVENT)

    def exchange(self) -> bytes:
        """Send the event and return the answer. multiprocessing.Pipe pickles both."""
        self.connection.send(self.event)
        result: str = self.connection.recv()
        return b'"' + result.encode() + b'"'

    def settle(self) -> None:
        """Do nothing: the next event may follow at once."""

    def close(self) -> None:
        """End the child."""
        self.connection.close()
        self.process.join()


def work(connection: Connection, parents: Connection) -> None:
    """Call the handler for every event until the parent closes its end. This runs in the child."""
    import importlib
    import sys

    parents.close()
    sys.path.insert(0, CODE_DIR)
    module, _, name = HANDLER.rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    try:
        while True:
            connection.send(handler(connection.recv(), None))
    except EOFError:
        return


if __name__ == "__main__":
    serve(MultiprocessingPipe())
