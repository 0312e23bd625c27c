"""Handlers that return facts about their process, and handlers that use threads, processes, signals and files."""

import asyncio
import atexit
import contextvars
import gc
import importlib.util
import io
import locale
import multiprocessing
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import __main__

variable = contextvars.ContextVar("variable", default="default")
counter = 0


def double(n):
    return 2 * n


def counts(event, context):
    global counter
    counter += 1
    return counter


def path(event, context):
    return [os.path.realpath(sys.path[0] or ".") == os.path.realpath(os.getcwd()), "" in sys.path[1:]]


def file_next_to_it(event, context):
    with open("values.py") as relative, open(os.path.join(os.path.dirname(__file__), "values.py")) as absolute:
        return relative.readline() == absolute.readline()


def stdout_kind(event, context):
    out = sys.stdout
    return [out.isatty(), out.encoding.lower(), out.writable(), out.closed, isinstance(out.fileno(), int)]


def stderr_kind(event, context):
    return [sys.stderr.isatty(), sys.stderr.encoding.lower(), sys.stderr.errors]


def stdout_newlines(event, context):
    return [sys.stdout.newlines, sys.stdout.line_buffering, sys.stdout.name]


def stdout_replaced(event, context):
    before, sys.stdout = sys.stdout, io.StringIO()
    try:
        print("hidden")
        return sys.stdout.getvalue()
    finally:
        sys.stdout = before


def stdout_reconfigured(event, context):
    sys.stdout.reconfigure(line_buffering=True)
    print("after it")


def stdout_original(event, context):
    print("to the original", file=sys.__stdout__)
    sys.__stdout__.flush()


def stdin(event, context):
    return sys.stdin.read()


def in_threads(event, context):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(double, [1, 2, 3]))


def in_a_thread_that_prints(event, context):
    thread = threading.Thread(target=print, args=("in a thread",))
    thread.start()
    thread.join()


def in_a_thread_that_raises(event, context):
    thread = threading.Thread(target=double, args=(None,), name="failing")
    thread.start()
    thread.join()


def in_processes(event, context):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(double, [1, 2]))


def in_a_process_with_a_pipe(event, context):
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=there.send, args=(7,))
    child.start()
    child.join()
    return [here.recv(), child.exitcode]


def forked(event, context):
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(event, context):
    found = subprocess.run(["sh", "-c", "echo $0; exit 3", "text"], capture_output=True, text=True, check=False)
    return [found.returncode, found.stdout, found.stderr]


def command_of_python(event, context):
    return subprocess.check_output([sys.executable, "-c", "print(6 * 7)"], text=True)


def awaits(event, context):
    async def work():
        return await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))

    return asyncio.run(work())


def loop_of_its_own(event, context):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.sleep(0, "slept"))
    finally:
        loop.close()


def alarm(event, context):
    def ring(number, frame):
        raise TimeoutError("rang")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        time.sleep(5)
    except TimeoutError as error:
        return str(error)
    finally:
        signal.signal(signal.SIGALRM, before)


def signals(event, context):
    names = ("SIGINT", "SIGTERM", "SIGPIPE", "SIGCHLD", "SIGALRM", "SIGUSR1", "SIGHUP")
    return {name: str(signal.getsignal(getattr(signal, name))) for name in names}


def blocked_signals(event, context):
    return len(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def limits(event, context):
    sys.setrecursionlimit(sys.getrecursionlimit())
    return [sys.getrecursionlimit(), resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1, threading.active_count()]


def threads_are_main(event, context):
    return [threading.current_thread() is threading.main_thread(), threading.current_thread().name]


def temporary(event, context):
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("text")
        file.seek(0)
        return file.read()


def sockets(event, context):
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        return other.recv(1).decode()


def own_stack(event, context):
    return [frame.name for frame in traceback.extract_stack()][-2:]


def context_variable(event, context):
    before = variable.get()
    variable.set("set")
    return before


def context_variable_again(event, context):
    return variable.get()


def at_exit(event, context):
    atexit.unregister(atexit.register(print, "never"))


def delayed(event, context):
    results = queue.SimpleQueue()
    threading.Timer(0.01, results.put, ["late"]).start()
    return results.get(timeout=5)


CASES = {name: value for name, value in globals().items() if type(value) is type(double) and name != "double"}
CASES |= {
    "folder": lambda event, context: os.getcwd() == os.path.dirname(os.path.abspath(__file__)),
    "name": lambda event, context: [__name__, os.path.basename(__file__)],
    "main": lambda event, context: getattr(__main__, "__file__", None) is not None,
    "arguments": lambda event, context: sys.argv[-1],
    "handler_variable": lambda event, context: os.environ["_HANDLER"],
    "utf8": lambda event, context: [
        sys.getfilesystemencoding(),
        sys.flags.utf8_mode,
        locale.getpreferredencoding(False),
    ],
    "flags": lambda event, context: [sys.flags.optimize, sys.flags.isolated, sys.flags.no_site, sys.flags.dev_mode],
    "garbage": lambda event, context: gc.isenabled(),
    "counts_on": counts,
    "umask": lambda event, context: os.umask(os.umask(0o22)) >= 0,
    "zone": lambda event, context: [time.tzname, time.timezone],
    "modules": lambda event, context: importlib.util.find_spec("json").origin == sys.modules["json"].__file__,
    "excepthook": lambda event, context: sys.excepthook is sys.__excepthook__,
}
