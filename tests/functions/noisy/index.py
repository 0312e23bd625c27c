"""A function that writes to every output except its result."""

import logging
import multiprocessing
import os
import subprocess
import sys

logger = logging.getLogger(__name__)
print("printed while loading")


def child(number):
    print(f"printed by child {number}")
    os.write(1, b"written by child %d\n" % number)
    return number * number


def handler(event, context):
    print("printed by the handler")
    logger.info("logged by the handler")
    logger.warning("two\nlines")
    os.system("ps -ef")
    os.system("ls -l /")
    subprocess.run(["echo", "from a subprocess"], check=True)
    os.write(1, b"from os.write\n")
    sys.stdout.buffer.write(b"from the buffer\n")
    sys.__stdout__.write("from __stdout__\n")
    print("to stderr", file=sys.stderr)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        squares = pool.map(child, range(4))
    print("no line break at the end", end="")
    return {"squares": squares}
