r"""Functions that reach a limit, and a function that is slow: they show what -m, -t and -w do.

$ printf '0.5\n0\n' | pipe-init run index.wait -C examples/limits --events - -w 2 -q
0.5
0
"""

import time


def allocate(event):
    return len(bytearray(event * 2**20))


def hang(event):
    while True:
        time.sleep(60)  # for an answer that does not come


def wait(event):
    time.sleep(event)
    return event
