"""A function that needs the main thread, since Python allows no other thread to set a signal handler.

$ pipe-init run index.handler -C examples/main_thread -e 0.1
"gave up after 0.1 s"
"""

import signal
import time


class GaveUp(Exception):
    pass


def give_up(number, frame):
    raise GaveUp


def handler(event, context):
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, event)
    try:
        time.sleep(60)
        return "done"
    except GaveUp:
        return f"gave up after {event} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
