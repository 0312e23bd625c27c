"""A function that leaves something behind after a request: a process, a thread, a timer or work for the exit."""

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
    """Fork a child that holds every pipe of the worker. The fork is below Python, so it runs no hooks."""
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
    """Let a daemon trace and stop the worker, so that no signal except SIGKILL reaches it."""
    seized = _seize(stop=True)
    return "this system forbids it" if not seized else time.sleep(1000)


def traced(event):
    """Let a daemon trace the worker. After the worker's death only its tracer can reap it."""
    if not _seize(stop=False):
        return "this system forbids it"
    os._exit(3)


def _seize(stop):
    """Start a daemon that traces this process. Return False if the kernel forbids it."""
    libc, worker = ctypes.CDLL(None), os.getpid()
    wait, ready = os.pipe()
    libc.prctl(0x59616D61, ctypes.c_ulong(2**64 - 1), 0, 0, 0)  # PR_SET_PTRACER, PR_SET_PTRACER_ANY
    if os.fork() == 0:
        os.setsid()
        between = os.getpid()
        if os.fork() == 0:
            while os.getppid() == between:  # otherwise that process's end sends SIGCHLD, which stops a traced worker
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
    """Return twice as `returns_twice` does, from a fork that runs no hooks."""
    pid = ctypes.PyDLL(None).fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def prints_below(event):
    """Return twice as `returns_twice_below` does. The child prints before and after its parent has answered."""
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
    """Fork twice, check in the grandchild that the second fork closed no descriptor, and return the exit code."""
    pid = os.fork()
    if pid == 0:
        mine = [os.dup(2) for _ in range(20)]  # they take the numbers that the first fork has freed
        inner = os.fork()
        if inner == 0:
            for descriptor in mine:
                os.fstat(descriptor)
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_all(event):
    """Return what was written to the FIFO. Raise BlockingIOError if a process holds it open."""
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
    """Set an alarm. It ends the process if all signal handlers are at their defaults."""
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    signal.pause()


def handler(event, context):
    return globals()[event["fault"]](event) if "fault" in event else event
