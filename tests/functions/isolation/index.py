"""A function that leaves behind all that a request can leave in its process, and one that looks for such traces.

The event is {"do": "leave", "fifo": path, "then": name of an end below} or {"do": "look", "fifo": path}. A look returns
what it found by name, which is the same in each fresh process. Each name in LOOKS finds what the same name in LEAVINGS
has left.
"""

import asyncio
import atexit
import builtins
import contextvars
import ctypes
import decimal
import fcntl
import gc
import io
import json
import locale
import logging
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import types
import warnings

LIBC = ctypes.CDLL(None, use_errno=True)
PR_GET_PDEATHSIG, PR_SET_PDEATHSIG = 2, 1
MODULE_LEVEL = []
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Shared:
    """A class with state that all requests of a process share."""

    count = 0


# What can be left


def leave_global(event):
    global left_global
    left_global = MODULE_LEVEL
    MODULE_LEVEL.append("left")
    Shared.count += 1
    builtins.left = "left"


def leave_environment(event):
    os.environ["LEFT"] = "left"
    os.environ.pop("PATH", None)
    LIBC.setenv(b"LEFT_BELOW", b"left", 1)
    os.putenv("LEFT_BY_PUTENV", "left")
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()


def leave_folder(event):
    os.chdir("/")


def leave_umask(event):
    os.umask(0o111)


def leave_locale(event):
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def leave_signals(event):
    for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    os.kill(os.getpid(), signal.SIGWINCH)  # pending now
    wakeup = socket.socketpair()[0]
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)


def leave_timers(event):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 500, 500)
    signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_VIRTUAL, 500)
    timer = ctypes.c_void_p()
    assert LIBC.timer_create(time.CLOCK_MONOTONIC, None, ctypes.byref(timer)) == 0


def leave_thread(event):
    threading.Thread(target=threading.Event().wait, daemon=True, name="left").start()
    threading.Timer(1000, print).start()  # it would keep an interpreter from ending


def leave_files(event):
    left = [open("/dev/null", "w"), open(__file__)]
    left += [os.pipe(), socket.socketpair()]
    os.set_inheritable(left[0].fileno(), True)
    MODULE_LEVEL.append(left)


def leave_socket(event):
    server = socket.socket(socket.AF_UNIX)
    server.bind(address(event))
    server.listen()
    MODULE_LEVEL.append(server)
    socket.setdefaulttimeout(3.5)


def leave_children(event):
    """Leave five children.

    One is plain, one is stopped, and one ignores signals and holds the worker's pipes. One is a daemon in a session of
    its own. One was forked by C code, so that no fork hook of Python ran.
    """
    reader, writer = os.pipe()
    for kind in ("plain", "stopped", "deaf", "daemon", "below"):
        pid = ctypes.PyDLL(None).fork() if kind == "below" else os.fork()  # a fork below Python runs no hooks
        if pid == 0:
            try:
                stay(kind, event["fifo"], writer)
            finally:
                os._exit(1)
        if kind == "daemon":
            os.waitpid(pid, 0)
        assert os.read(reader, 1) == b"1"
        if kind == "stopped":
            os.waitpid(pid, os.WUNTRACED)
    os.close(reader)
    os.close(writer)


def stay(kind, fifo, ready):
    if kind == "daemon":
        os.setsid()
        if os.fork():
            os._exit(0)
    if kind == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    held = os.open(fifo, os.O_WRONLY)
    os.write(held, b".")
    os.write(ready, b"1")
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        time.sleep(1000)


def leave_patches(event):
    json.dumps = json.loads = lambda *arguments, **options: "patched"
    time.time = time.monotonic = lambda: 0.0
    os.getcwd = os.fork = None
    builtins.sorted = lambda thing: [7]
    builtins.print = None
    sys.exit = None
    signal.signal = None


def leave_modules(event):
    sys.modules["left_module"] = types.ModuleType("left_module")
    sys.modules.pop("decimal")
    sys.modules["colorsys"] = None
    sys.path.insert(0, "/left")
    sys.path_hooks.clear()
    sys.meta_path.insert(0, types.SimpleNamespace(find_spec=lambda *arguments: None))
    sys.argv.append("left")


def leave_streams(event):
    sys.stdout = io.StringIO()
    sys.stderr = None
    sys.stdin = io.StringIO("left")
    sys.displayhook = sys.excepthook = print


def leave_logging(event):
    root = logging.getLogger()
    root.handlers.clear()
    root.addHandler(logging.StreamHandler(io.StringIO()))
    root.setLevel(logging.CRITICAL)
    logging.getLogger("left").disabled = True
    logging.disable(logging.ERROR)
    logging.addLevelName(35, "LEFT")
    logging.captureWarnings(True)


def leave_limits(event):
    for limit, value in ((resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 2**30)):
        resource.setrlimit(limit, (value, value))


def leave_priority(event):
    os.nice(5)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def leave_random(event):
    random.seed(42)


def leave_interpreter(event):
    gc.disable()
    gc.set_threshold(1, 1, 1)
    gc.callbacks.append(lambda phase, info: None)
    warnings.simplefilter("error")
    warnings.showwarning = None
    sys.setrecursionlimit(500)
    sys.setswitchinterval(1.0)
    sys.settrace(lambda *arguments: None)
    threading.settrace(lambda *arguments: None)
    sys.set_int_max_str_digits(0)
    decimal.setcontext(decimal.Context(prec=2))
    VARIABLE.set("left")
    atexit.register(int)
    tempfile.tempdir = "/left"
    asyncio.set_event_loop(asyncio.new_event_loop())
    threading.stack_size(1 << 20)


def leave_process(event):
    with open("/proc/self/comm", "w") as file:
        file.write("left")
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGWINCH), 0, 0, 0)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")
    if os.geteuid() == 0:
        os.setegid(64123)
        os.setgroups([64123])


# What can be found


def look_global(event):
    return ["left_global" in globals(), MODULE_LEVEL, Shared.count, hasattr(builtins, "left")]


def look_environment(event):
    LIBC.getenv.restype = ctypes.c_char_p
    below = [bool(LIBC.getenv(name)) for name in (b"LEFT", b"LEFT_BELOW", b"LEFT_BY_PUTENV", b"PATH", b"TZ")]
    return [sorted(os.environ), below, time.tzname]


def look_folder(event):
    return os.getcwd()


def look_umask(event):
    return of_status("Umask")


def look_locale(event):
    return [locale.setlocale(locale.LC_ALL), locale.localeconv()["decimal_point"]]


def look_signals(event):
    kept = {int(number): name_of(signal.getsignal(number)) for number in sorted(signal.valid_signals())}
    wakeup = signal.set_wakeup_fd(-1)
    return [kept, wakeup, [of_status(field) for field in ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")]]


def look_timers(event):
    with open("/proc/self/timers") as file:
        made = file.read()
    return [signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)] + [made]


def look_thread(event):
    return [sorted(thread.name for thread in threading.enumerate()), len(os.listdir("/proc/self/task"))]


def look_files(event):
    """Return which descriptors are open, what they lead to, and which of them exec keeps.

    Inode numbers are left out, since they differ. Newer versions of libffi, which ctypes loads, keep a file open under
    any free number.
    """
    found = {}
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFL), fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            continue  # the descriptor that lists the folder
        name = os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]
        if not os.path.basename(name).startswith("libffi.so"):
            found[number] = [name, flags]
    return found


def look_socket(event):
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(address(event))
        except OSError as error:
            return error.strerror
    return [socket.getdefaulttimeout()]


def look_children(event):
    """Return the number of children, and whether any process holds the FIFO after `patience` seconds."""
    own = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            own += file.read().split()
    reader = os.open(event["fifo"], os.O_RDONLY | os.O_NONBLOCK)
    held, ends = True, time.perf_counter() + event.get("patience", 0.0)
    while held:
        try:
            held = bool(os.read(reader, 4096))
        except BlockingIOError:
            if time.perf_counter() >= ends:
                break
            select.select([reader], [], [], ends - time.perf_counter())
    os.close(reader)
    return [len(own), held]


def look_patches(event):
    functions = [json.dumps, json.loads, time.time, time.monotonic, os.getcwd, os.fork, sorted, print]
    return [name_of(each) for each in (*functions, sys.exit, signal.signal)]


def look_modules(event):
    path = [name_of(each) for each in (*sys.path_hooks, *sys.meta_path)]
    return [
        sorted(sys.modules),
        [name for name, found in sys.modules.items() if found is None],
        sys.path,
        path,
        sys.argv,
    ]


def look_streams(event):
    streams = [[type(stream).__name__, getattr(stream, "name", None)] for stream in (sys.stdin, sys.stdout, sys.stderr)]
    return [streams, name_of(sys.displayhook), name_of(sys.excepthook)]


def look_logging(event):
    root = logging.getLogger()
    names = sorted(logging.root.manager.loggerDict)
    return [
        [root.level, [type(handler).__name__ for handler in root.handlers], names],
        [logging.root.manager.disable, logging.getLevelName(35), name_of(warnings.showwarning)],
    ]


def look_limits(event):
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def look_priority(event):
    return [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)]


def look_random(event):
    return random.getstate() == random.Random(42).getstate()


def look_interpreter(event):
    return [
        [gc.isenabled(), gc.get_threshold(), len(gc.callbacks), repr(warnings.filters)],
        [sys.getrecursionlimit(), sys.getswitchinterval(), name_of(sys.gettrace()), sys.get_int_max_str_digits()],
        [decimal.getcontext().prec, VARIABLE.get(), atexit._ncallbacks(), tempfile.tempdir],
        [threading._trace_hook is None, threading.stack_size(), threads_event_loop()],
    ]


def look_process(event):
    death = ctypes.c_int()
    LIBC.prctl(PR_GET_PDEATHSIG, ctypes.byref(death), 0, 0, 0)
    with open("/proc/self/oom_score_adj") as oom, open("/proc/self/comm") as comm:
        scores = [oom.read(), comm.read()]
    leads = [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()]
    return [death.value, scores, leads, os.getegid(), os.getgroups(), of_status("NoNewPrivs"), of_status("Seccomp")]


def of_status(field):
    with open("/proc/self/status") as file:
        return next(line.partition(":")[2].strip() for line in file if line.startswith(field + ":"))


def name_of(thing):
    """Return a text for an object that is the same in each process."""
    where = getattr(thing, "__module__", None) or type(thing).__module__
    return f"{where}.{getattr(thing, '__qualname__', None) or type(thing).__qualname__}"


def threads_event_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.get_event_loop_policy()._local._loop is None


def address(event):
    return "\0" + event["fifo"]


# How a request ends


def hang():
    while True:
        time.sleep(1000)


def write_nonsense():
    """Write nonsense to the pipe on which the runtime sends its answers."""
    os.write(6, b"\xff" * 64)
    hang()


ENDS = {
    "answer": lambda: None,
    "raise": lambda: struct.unpack("I", b""),
    "hang": hang,
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda kill=os.kill, pid=os.getpid: kill(pid(), signal.SIGKILL),
    "nonsense": write_nonsense,
}

LEAVINGS = {name[6:]: function for name, function in globals().items() if name.startswith("leave_")}
LOOKS = {name[5:]: function for name, function in globals().items() if name.startswith("look_")}
LAST = ("limits", "streams", "patches")
"""What is left behind last, since it breaks what the other leavings need."""

FIRST = ("children",)
"""What is looked for first: when these processes are gone, so is what they held."""


def leave(event):
    names = event.get("only") or [*(name for name in LEAVINGS if name not in LAST), *LAST]
    held = [os.open(event["fifo"], os.O_WRONLY | os.O_NONBLOCK)]
    for name in names:
        LEAVINGS[name](event)
    held.append(os.dup(held[0]))  # whichever end is closed last in a dying process: all in between is closed then
    MODULE_LEVEL.append(held)
    ENDS[event.get("then", "answer")]()
    return "left"


def look(event):
    names = event.get("only") or LOOKS
    return {name: LOOKS[name](event) for name in sorted(names, key=lambda name: name not in FIRST)}


def handler(event, context):
    return {"leave": leave, "look": look}[event["do"]](event)
