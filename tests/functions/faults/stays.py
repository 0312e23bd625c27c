"""A function that holds a FIFO open for writing and waits in a place that its event names, until its process is killed.

The event is {"fifo": path, "where": name of a function below, "go": path of a FIFO to wait for}. If the variable
AT_IMPORT holds the FIFO's path, the module waits while it is imported.
"""

import collections
import itertools
import os
import signal
import subprocess
import time


def say(path, text=b"here\n"):
    held = os.open(path, os.O_WRONLY)
    os.write(held, text)
    return held


def loop(event):
    say(event["fifo"])
    all(iter(lambda: True, False))


def loop_in_c_with_signals_blocked(event):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    say(event["fifo"])
    collections.deque(itertools.repeat(0), maxlen=0)


def program(event):
    subprocess.run(["/bin/sh", "-c", 'exec 3>"$0"; echo here >&3; while :; do sleep 1000; done', event["fifo"]])


def without_our_descriptors(event):
    os.closerange(3, 256)
    say(event["fifo"])
    all(iter(lambda: True, False))


def another_program(event):
    os.execv("/bin/sh", ["sh", "-c", 'exec 5>"$0"; echo here >&5; while :; do sleep 1000; done', event["fifo"]])


def stopped(event):
    say(event["fifo"])
    os.kill(os.getpid(), signal.SIGSTOP)


def ladder(event):
    """Report each SIGTERM in the FIFO and go on."""
    held = say(event["fifo"], b"")
    signal.signal(signal.SIGTERM, lambda number, frame: os.write(held, b"here\n"))
    while True:
        time.sleep(1000)


def stubborn(event):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(event["fifo"])
    while True:
        time.sleep(1000)


def idle(event):
    say(event["fifo"])
    return "idle"


def until_told(event):
    say(event["fifo"])
    with open(event["go"], "rb") as go:
        return go.read().decode()


if "AT_IMPORT" in os.environ:
    loop({"fifo": os.environ["AT_IMPORT"]})


def handler(event, context):
    return globals()[event["where"]](event) if "where" in event else event
