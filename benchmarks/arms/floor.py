"""Send the event's bytes through a pipe and back, in pure Python and without any protocol.

The time of this arm is the floor: no other arm can be faster. In blocking mode the code is as simple as possible. In
spinning mode it is as fast as two Python processes on two CPUs can be.
"""

from __future__ import annotations

import argparse
import os
import select
import time
from collections.abc import Callable

from .case import ANSWER, EVENT
from .driver import serve

READ_SIZE = 64 * 1024


class Floor:
    """The parent's end of two pipes to a child that answers.

    Args:
        spin: The microseconds for which both sides poll for bytes before they sleep. With 0 they sleep at once.
        answer: The function that the child runs until its input ends. Its arguments are a function that reads, and the
            descriptor for answers.
    """

    def __init__(self, spin: int, answer: Callable[[Callable[[], bytes], int], None] | None = None) -> None:
        requests_in, self.requests = os.pipe()
        self.answers, answers_out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.requests)
                os.close(self.answers)
                (answer or echo)(reader(requests_in, spin), answers_out)
            finally:
                os._exit(0)
        os.close(requests_in)
        os.close(answers_out)
        self.read = reader(self.answers, spin)

    def exchange(self) -> bytes:
        """Write once and read once. Messages this small are never split."""
        os.write(self.requests, EVENT)
        return self.read()

    def settle(self) -> None:
        """Do nothing: the next event may follow at once."""

    def close(self) -> None:
        """End the child."""
        os.close(self.requests)
        os.waitpid(self.pid, 0)


def echo(read: Callable[[], bytes], answers: int) -> None:
    """Answer every event until the stream ends."""
    while read():
        os.write(answers, ANSWER)


def reader(descriptor: int, spin: int) -> Callable[[], bytes]:
    """Return a function that returns the next bytes from `descriptor`, or b"" at its end."""
    if not spin:
        return lambda: os.read(descriptor, READ_SIZE)
    os.set_blocking(descriptor, False)
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    clock, limit = time.perf_counter_ns, spin * 1000

    def read() -> bytes:
        end = clock() + limit
        while True:
            try:
                return os.read(descriptor, READ_SIZE)
            except BlockingIOError:
                if clock() > end:
                    waiting.poll()

    return read


def main() -> None:
    """Run `python -m arms.floor [--spin MICROSECONDS]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spin", type=int, default=0)
    serve(Floor(parser.parse_args().spin))


if __name__ == "__main__":
    main()
