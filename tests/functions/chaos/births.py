"""Functions whose workers start and end at moments that are hard for pipe-init.

They do not know what the test expects.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Callable
from typing import Any

template = os.getpid()


def echo(event: Any) -> list[Any]:
    return [event, os.getpid()]


def slow_to_end(event: Any) -> Any:
    """Return the event. The process takes a while to end after it is told to."""
    atexit.register(time.sleep, 0.3)
    return event


def forked_unreported(event: Any) -> Any:
    """Return the event. The process that forks the first worker dies before the template can report that worker."""
    with open(os.environ["CHAOS_LOG"], "ab") as log:
        log.write(b"%d\n" % event)
    return event


def dies_unreported() -> None:
    if os.environ.get("CHAOS_LOG") and os.getpid() != template and first():
        os.kill(os.getpid(), signal.SIGKILL)


def first() -> bool:
    try:
        os.close(os.open(os.environ["CHAOS_LOG"] + ".first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


hook: Callable[[], None] = dies_unreported
os.register_at_fork(after_in_parent=hook)
