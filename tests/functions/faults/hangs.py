"""A function whose requests never end by themselves."""

import collections
import itertools
import os
import signal
import subprocess
import threading
import time


def loop():
    # It calls nothing: faulthandler can crash CPython 3.11 when it looks at a frame that is just being entered.
    [0 for _ in itertools.repeat(0) if False]  # <- loop


def loop_in_c():
    collections.deque(itertools.repeat(0), maxlen=0)  # <- loop_in_c


def sleep():
    time.sleep(1000)  # <- sleep


def connects():
    print("connecting ...", end="", flush=True)
    time.sleep(1000)  # <- connects


def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()  # <- deadlock


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(1000)  # <- stubborn
        except BaseException:  # noqa: S112
            continue


def blocks_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    collections.deque(itertools.repeat(0), maxlen=0)


def stops():
    os.kill(os.getpid(), signal.SIGSTOP)  # <- stops
    time.sleep(1000)


def dies_of_the_dump_signal():
    signal.signal(signal.SIGRTMAX, signal.SIG_DFL)  # the init asks for a stack with this signal
    time.sleep(1000)


def aborts_at_the_dump_signal():
    def abort(number, frame):
        os.abort()  # <- aborts_at_the_dump_signal

    signal.signal(signal.SIGRTMAX, abort)
    time.sleep(1000)


def waits_for_a_program():
    subprocess.run(["sleep", "1000"])  # <- waits_for_a_program


def answers_late():
    def late(number, frame):
        raise InterruptedError("asked to end")

    signal.signal(signal.SIGTERM, late)
    try:
        time.sleep(1000)  # <- answers_late
    except InterruptedError:
        return "late"


def naps():
    time.sleep(0.3)
    return "rested"


def handler(event, context):
    return globals()[event["fault"]]() if "fault" in event else event
