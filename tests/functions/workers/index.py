"""A function that makes its worker wait, die, grow or leave a daemon, as the event says.

It writes a line to stderr when it is loaded. Two variables change what it does then. HOLD is the path of a FIFO, which
every process that has loaded the function holds open. AT_IMPORT is code to run.
"""

import os
import signal
import sys
import threading
import time

print("loaded in", os.getpid(), file=sys.stderr, flush=True)
HELD = os.open(os.environ["HOLD"], os.O_WRONLY) if "HOLD" in os.environ else -1
KEPT = []

exec(os.environ.get("AT_IMPORT", ""))


def hang_at_import():
    while True:
        time.sleep(1000)  # the import hangs here


if "HANG" in os.environ:
    hang_at_import()


def pid(event):
    return os.getpid()


def number(event):
    return event["number"]


def count(event):
    """Note in a file that this event has begun, and return its number."""
    note(event["file"], b"%d\n" % event["number"])
    if event.get("die"):
        os._exit(7)
    return event["number"]


def meet(event):
    """Tell the test that the request has begun, and wait until the test opens the other pipe."""
    note(event["fifo"], b"here\n")
    os.close(os.open(event["go"], os.O_RDONLY))
    return event.get("number", os.getpid())


def die(event):
    os.kill(os.getpid(), event.get("signal", signal.SIGKILL))


def fail(event):
    raise ValueError(event["number"])


def grow(event):
    KEPT.append(b"x" * (event["mb"] << 20))
    return os.getpid()


def daemon(event):
    """Leave a process in a session of its own that holds the FIFO open."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            held = os.open(event["fifo"], os.O_WRONLY)
            os.write(held, b"here\n")
            os.write(writer, b"1")
            while True:
                time.sleep(1000)
        os._exit(0)
    os.wait()
    os.read(reader, 1)
    return os.getpid()


def talk(event):
    print("event", event["number"])
    return threading.get_ident()


def note(path, text):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, text)
    os.close(descriptor)


def initialize(context):
    print("initialized", os.getpid())


def before_the_end(context):
    print("stopped", os.getpid())


def handler(event, context):
    return globals()[event.get("do", "pid")](event)
