"""multiprocessing.Pipe: the event as a pickled object to a child that calls the handler, the result back."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.connection import Connection

from .case import CODE_DIR, EVENT, HANDLER
from .driver import serve


class MultiprocessingPipe:
    """The parent's end. The result is put between quotes to be compared with the other arms'."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.connection))
        self.process.start()
        theirs.close()
        self.event = json.loads(EVENT)

    def exchange(self) -> bytes:
        """Pickled both ways, as this module's users do."""
        self.connection.send(self.event)
        result: str = self.connection.recv()
        return b'"' + result.encode() + b'"'

    def settle(self) -> None:
        """Nothing: the next event may follow at once."""

    def close(self) -> None:
        """End the child."""
        self.connection.close()
        self.process.join()


def work(connection: Connection, parents: Connection) -> None:
    """In the child: call the handler for every event until the other end is closed."""
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
