"""A function whose requests leave something behind: processes, threads, timers, work for the exit."""

import atexit
import ctypes
import os
import signal
import threading
import time


def say_and_stay(path, ready):
    """Hold the FIFO open for writing until killed."""
    held = os.open(path, os.O_WRONLY)
    os.write(held, b"here\n")
    os.write(ready, b"1")
    while True:
        time.sleep(1000)


def child_that_keeps_the_pipes(event):
    """A fork below Python: no hook runs in it, so it holds every pipe of the worker's."""
    wait, ready = os.pipe()
    if ctypes.PyDLL(None).fork() == 0:
        say_and_stay(event["fifo"], ready)
    os.read(wait, 1)
    return "left"


def daemon(event):
    wait, ready = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            say_and_stay(event["fifo"], ready)
        os._exit(0)
    os.read(wait, 1)
    return "left"


def daemon_and_death(event):
    daemon(event)
    os.kill(os.getpid(), signal.SIGKILL)


def traced_and_stopped(event):
    """As traced, by a tracer that also stops the worker, which no signal but SIGKILL then reaches."""
    seized = _seize(stop=True)
    return "this system forbids it" if not seized else time.sleep(1000)


def traced(event):
    """A daemon that traces the worker: once that is dead, only its tracer can collect it."""
    if not _seize(stop=False):
        return "this system forbids it"
    os._exit(3)


def _seize(stop):
    """Have a daemon trace this process. False: it may not."""
    libc, worker = ctypes.CDLL(None), os.getpid()
    wait, ready = os.pipe()
    libc.prctl(0x59616D61, ctypes.c_ulong(2**64 - 1), 0, 0, 0)  # PR_SET_PTRACER, PR_SET_PTRACER_ANY
    if os.fork() == 0:
        os.setsid()
        between = os.getpid()
        if os.fork() == 0:
            while os.getppid() == between:  # its SIGCHLD, were the worker traced by then, would stop the worker
                time.sleep(0.001)
            seized = libc.ptrace(0x4206, worker, 0, 0)  # PTRACE_SEIZE
            os.write(ready, b"1" if seized == 0 else b"0")
            if stop:
                libc.ptrace(0x4207, worker, 0, 0)  # PTRACE_INTERRUPT
            while True:
                time.sleep(1000)
        os._exit(0)
    return os.read(wait, 1) == b"1"


def returns_twice_below(event):
    """As returns_twice, by a fork that runs no hooks."""
    pid = ctypes.PyDLL(None).fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def prints_below(event):
    """As returns_twice_below, by a child that prints, before and after its parent has answered."""
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        for _ in range(20):
            print("live")
            time.sleep(0.01)
        os._exit(0)
    return "parent"


def returns_twice(event):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def raises_in_fork(event):
    pid = os.fork()
    if pid == 0:
        raise RuntimeError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forks_deeply(event):
    """The exit code of a child whose child checks that no descriptor was closed under it."""
    pid = os.fork()
    if pid == 0:
        mine = [os.dup(2) for _ in range(20)]  # these take the numbers that are free by now
        inner = os.fork()
        if inner == 0:
            for descriptor in mine:
                os.fstat(descriptor)
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_all(event):
    """What was written to the FIFO. BlockingIOError: somebody holds it open."""
    reader = os.open(event["fifo"], os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb", buffering=0) as file:
        return "".join(piece.decode() for piece in iter(lambda: os.read(file.fileno(), 4096), b""))


def thread_that_stays(event):
    wait, ready = os.pipe()
    threading.Thread(target=say_and_stay, args=(event["fifo"], ready)).start()
    os.read(wait, 1)
    return "left"


def at_exit(event):
    atexit.register(say_at_exit, event["fifo"])
    return "registered"


def say_at_exit(path):
    with open(path, "wb") as file:
        file.write(b"here\n")


def alarm(event):
    def rings(number, frame):
        raise TimeoutError("an alarm of an earlier request")

    signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    return "set"


def default_alarm(event):
    """Once every signal handler is back at its default, an alarm ends the process."""
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    signal.pause()


def handler(event, context):
    return globals()[event["fault"]](event) if "fault" in event else event
