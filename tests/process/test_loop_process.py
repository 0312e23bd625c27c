"""Tests of the runtime's process with the function in it: forks, signals, descriptors, and what it finds there."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from textwrap import dedent

import pytest

from pipe_runtime.wire.messages import DUMP, ERROR, LOG, RESULT
from pipe_testing.environment import unmeasured
from pipe_testing.runtime import RuntimeProcess, script

ECHO = "def handler(event, context):\n    return event\n"


@pytest.mark.parametrize("fork", ["os.fork()", "fork_in_signal_handler()", "fork_twice()"])
def test_handler_that_forks_and_returns_twice(tmp_path: Path, fork: str) -> None:
    source = f"""
    import os, signal, sys
    pids = []
    def note(number, frame):
        pids.append(os.fork())
    def fork_in_signal_handler():
        signal.signal(signal.SIGUSR1, note)
        os.kill(os.getpid(), signal.SIGUSR1)
        return pids.pop()
    def fork_twice():
        return os.fork() and os.fork()
    def handler(event, context):
        if event == "wait":
            codes = set()
            while True:
                try:
                    codes.add(os.waitstatus_to_exitcode(os.wait()[1]))
                except ChildProcessError:
                    return sorted(codes)
        pid = {fork}
        print("half", end="")
        if not pid and event == "exit":
            sys.exit(5)
        if not pid and event == "raise":
            raise ValueError("in the child")
        return "child" if pid == 0 else "parent"
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        for event, code in ((None, 0), ("exit", 5), ("raise", 1)):
            assert runtime.call(event) == "parent"
            assert runtime.logged() == ["half"]
            assert runtime.call("wait") == [code]
        assert runtime.stop() == 0
    assert runtime.log.count(b"half") == (6 if fork == "fork_twice()" else 3)
    assert b"ValueError: in the child" in runtime.log


def test_child_that_c_code_forked_makes_no_second_runtime(tmp_path: Path) -> None:
    """Check this in a child for which Python calls no fork hook."""
    source = """
    import ctypes, os
    pids = []
    def handler(event, context):
        if event == "wait":
            return os.waitstatus_to_exitcode(os.waitpid(pids.pop(), 0)[1])
        pids.append(ctypes.PyDLL(None).fork())
        return "parent" if pids[0] else "child"
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call() == "parent"
        assert runtime.call("wait") == 0
        assert runtime.stop() == 0


def test_fork_at_import_makes_no_second_runtime(tmp_path: Path) -> None:
    source = "import os\npid = os.fork()\ndef handler(event, context):\n    return pid and os.waitpid(pid, 0)[1]\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        assert runtime.call() == 0
        assert runtime.stop() == 0


def test_fork_in_code_of_the_results(tmp_path: Path) -> None:
    source = """
    import os
    class Result:
        def to_json(self):
            self.pid = os.fork()
            return "result"
    result = Result()
    def handler(event, context):
        return result if event else os.waitpid(result.pid, 0)[1]
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call(1) == "result"
        assert runtime.call(0) == 0


def test_excepthook_of_a_forked_child_that_raises(tmp_path: Path) -> None:
    source = """
    import os, sys
    def hook(*args):
        raise RuntimeError
    def handler(event, context):
        sys.excepthook = hook
        pid = os.fork()
        if not pid:
            raise ValueError
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call() == 1
        assert runtime.stop() == 0


def test_child_has_none_of_the_runtimes_descriptors(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = """
    import os
    def handler(event, context):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(writer, " ".join(os.readlink(f"/proc/self/fd/{n}") for n in range(64) if exists(n)).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writer)
        found = os.read(reader, 65536).decode().split()
        os.close(reader)
        return found
    def exists(n):
        try:
            os.fstat(n)
        except OSError:
            return False
        return True
    """
    with RuntimeProcess(tmp_path, dedent(source), keep=[pipe[1]]) as runtime:
        runtime.start(dump_fd=pipe[1], dump_signal=int(signal.SIGRTMAX))
        found = runtime.call()
        for descriptor in (runtime.requests, runtime.answers, pipe[0]):
            assert os.readlink(f"/proc/self/fd/{descriptor}") not in found
        assert os.readlink(f"/proc/self/fd/{runtime._log}") in found


def test_child_forked_amid_another_threads_prints_can_print(tmp_path: Path) -> None:
    source = """
    import os, threading
    stop = threading.Event()
    def chatter():
        while not stop.is_set():
            print("chatter")
    def handler(event, context):
        threads = [threading.Thread(target=chatter) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = set()
        for _ in range(10):
            pid = os.fork()
            if not pid:
                print("child")
                os._exit(0)
            codes.add(os.waitpid(pid, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
        return sorted(codes)
    """
    # Python 3.12 warns of a fork in a process with threads, which is tested here. Such a fork can leave a lock of
    # coverage taken.
    quiet = "import warnings\nwarnings.simplefilter('ignore')\n"
    with RuntimeProcess(tmp_path, quiet + dedent(source), environment=unmeasured()) as runtime:
        runtime.start()
        assert runtime.call() == [0]
        assert runtime.stop() == 0
    assert runtime.log.splitlines() == [b"child"] * 10


def test_handler_that_closes_its_standard_streams(tmp_path: Path) -> None:
    source = """
    import os, sys
    def handler(event, context):
        if event == "close":
            sys.stdout.write("half")
            sys.stdout.close()
            sys.stdin.close()
            os.close(0), os.close(1), os.close(2)
        if event == "print":
            print("x")
        return event
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call("close") == "close"
        assert runtime.logged() == ["half"]
        assert runtime.fail("print")["error_message"] == "I/O operation on closed file."
        assert runtime.call("more") == "more"
        assert runtime.stop() == 0


@pytest.mark.parametrize("thread", [False, True], ids=["alone", "beside a thread"])
@pytest.mark.parametrize("when", ["during", "left over", "again and again"])
def test_alarm_whose_handler_raises(tmp_path: Path, when: str, thread: bool) -> None:
    source = f"""
    import os, select, signal, threading
    class Alarm(Exception):
        pass
    def ring(number, frame):
        raise Alarm("late")
    signal.signal(signal.SIGALRM, ring)
    if {thread}:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    def handler(event, context):
        if event == "during":
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while True:
                signal.pause()
        if event == "again and again":
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.003)
        if event == "off":
            signal.setitimer(signal.ITIMER_REAL, 0)
        return event
    """
    # Without coverage: four alarms within a few instructions end the runtime, and coverage turns these into thousands.
    with RuntimeProcess(tmp_path, dedent(source), environment=unmeasured()) as runtime:
        runtime.start()
        if when == "during":
            assert runtime.fail(when)["error_type"] == "Alarm"
        else:
            assert runtime.outcome(runtime.invoke(when)).kind in (RESULT, ERROR)
            if when == "left over":
                os.kill(runtime.process.pid, signal.SIGALRM)  # like a timer, but certainly between requests
            line = runtime.next()  # the alarm came while no request ran: it is logged, and no request fails
            while line.kind == LOG and b"Alarm between requests: late" not in line.payload:
                line = runtime.next()
            assert (line.kind, line.id) == (LOG, 0)
        if when == "again and again":
            for _ in range(30):
                assert runtime.outcome(runtime.invoke("more")).kind in (RESULT, ERROR)
            while runtime.outcome(runtime.invoke("off")).kind == ERROR:
                continue
        for _ in range(3):
            assert runtime.call("next") == "next"
        assert runtime.stop() == 0


def test_two_signals_whose_handlers_raise_at_the_same_time(tmp_path: Path) -> None:
    """Check that the second exception, which comes after the function's code was left, does not end the worker."""
    source = """
    import os, signal
    BOTH = (signal.SIGUSR1, signal.SIGALRM)
    def ring(number, frame):
        raise RuntimeError(number)
    for number in BOTH:
        signal.signal(number, ring)
    def handler(event, context):
        if event:
            signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)
            for number in BOTH:
                os.kill(os.getpid(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BOTH)
        return event
    """
    with RuntimeProcess(tmp_path, dedent(source), environment=unmeasured()) as runtime:
        runtime.start()
        for _ in range(20):
            assert runtime.fail(1)["error_type"] == "RuntimeError"
            assert runtime.call(0) == 0
        assert runtime.stop() == 0


def test_signal_handler_runs_between_requests(tmp_path: Path) -> None:
    source = """
    import signal
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: (seen.append(number), print("noted")))
    def handler(event, context):
        return seen, signal.getsignal(signal.SIGUSR1).__name__
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        os.kill(runtime.process.pid, signal.SIGUSR1)
        line = runtime.next()
        assert (line.kind, line.id, line.payload) == (LOG, 0, b"noted")
        assert runtime.call() == [[signal.SIGUSR1], "<lambda>"]


def test_signal_handler_that_raises_inside_the_runtime_costs_the_worker(tmp_path: Path) -> None:
    """Check that the worker ends, without waiting for the function's thread.

    The handler is installed between two requests, so the runtime has not replaced it.
    """
    source = """
    import atexit, signal, threading
    atexit.register(print, "bye")
    def ring(number, frame):
        raise ValueError("late")
    def install(number, frame):
        signal.signal(signal.SIGALRM, ring)
        print("installed")
    signal.signal(signal.SIGUSR1, install)
    threading.Thread(target=threading.Event().wait).start()
    def handler(event, context):
        return event
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        os.kill(runtime.process.pid, signal.SIGUSR1)
        assert runtime.next().payload == b"installed"
        runtime.send(DUMP)  # its answer shows that the handler has returned
        assert runtime.next().kind == DUMP
        os.kill(runtime.process.pid, signal.SIGALRM)
        assert runtime.exit_code() == 1
        assert "ValueError: late" in runtime.logged("stderr")
        assert runtime.logged()[-1] == "bye"


def test_signal_handler_that_exits_between_requests(tmp_path: Path) -> None:
    source = """
    import atexit, signal, sys
    atexit.register(print, "bye")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    def handler(event, context):
        return event
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call(1) == 1
        os.kill(runtime.process.pid, signal.SIGTERM)
        assert runtime.exit_code() == 7
        assert runtime.logged() == ["bye"]


def test_interrupts_between_requests_belong_to_none(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, "import asyncio\n" + ECHO) as runtime:
        runtime.start()
        for n in range(200):
            os.kill(runtime.process.pid, signal.SIGINT)
            outcome = runtime.outcome(runtime.invoke(n))
            # An interrupt that comes late reaches the handler, whose own error it is.
            assert outcome.kind == RESULT or outcome.metadata["error_type"] == "KeyboardInterrupt"
        assert runtime.stop() == 0


def test_function_that_closes_the_runtimes_descriptors(tmp_path: Path) -> None:
    source = "import os\ndef handler(event, context):\n    os.closerange(3, 256)\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        runtime.invoke()
        assert runtime.ended() == 1
    assert b"is lost" in runtime.log


def test_what_a_handler_finds_open(tmp_path: Path, pipe: tuple[int, int]) -> None:
    alive, dump = fcntl.fcntl(pipe[0], fcntl.F_DUPFD, 20), fcntl.fcntl(pipe[1], fcntl.F_DUPFD, 20)
    source = """
    import os
    def handler(event, context):
        found = {}
        for n in range(256):
            try:
                os.fstat(n)
            except OSError:
                continue
            found[n] = [os.readlink(f"/proc/self/fd/{n}"), os.get_inheritable(n)]
        return found
    """
    with RuntimeProcess(tmp_path, dedent(source), keep=[alive, dump], environment=unmeasured()) as runtime:
        os.close(alive)
        os.close(dump)
        runtime.start(dump_fd=dump, dump_signal=int(signal.SIGRTMAX))
        found = {int(n): entry for n, entry in runtime.call().items()}
        assert set(range(3)) | {alive, dump} < set(found)
        private = {entry[0]: entry[1] for n, entry in found.items() if n not in (0, 1, 2, alive, dump)}
        ends = [os.readlink(f"/proc/self/fd/{n}") for n in (runtime.requests, runtime.answers)]
        assert private == dict.fromkeys(ends, False)
        assert len(found) == 7
        assert found[1] == found[2]
        assert found[0][0] not in ends
        assert found[dump][1] is False


LOOK = """
import os, sys
import __main__
def handler(event, context):
    return {
        "argv": sys.argv, "main": sorted(vars(__main__)), "main_file": getattr(__main__, "__file__", None),
        "path": sys.path, "modules": sorted(sys.modules), "environment": dict(os.environ), "cwd": os.getcwd(),
        "meta_path": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
    }
"""


@pytest.mark.parametrize("arguments", [[script()], ["-m", "pipe_runtime"]], ids=["script", "module"])
def test_what_a_handler_finds_in_the_interpreter(tmp_path: Path, arguments: list[str]) -> None:
    environment = unmeasured()
    elsewhere, code, layer = tmp_path / "elsewhere", tmp_path / "code", tmp_path / "layer"
    for folder in (elsewhere, code, layer):
        folder.mkdir()
    clean = subprocess.run(
        [sys.executable, "-c", "import sys, json; print(json.dumps([sys.path[1:], sorted(sys.modules)]))"],
        env=environment,
        capture_output=True,
        check=True,
        cwd=elsewhere,
    )
    path, modules = json.loads(clean.stdout)
    with RuntimeProcess(code, LOOK, arguments=arguments, environment=environment, cwd=elsewhere) as runtime:
        runtime.start(layers=[str(layer)], environment={"ADDED": "1"})
        found = runtime.call()
    assert found["argv"] == ["index.handler"]
    assert found["main_file"] is None
    assert set(found["main"]) <= {"__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"}
    assert found["cwd"] == str(code)
    assert found["path"] == [str(code), str(layer), *path]
    assert found["environment"] == {**environment, "ADDED": "1"}
    more = {name.partition(".")[0] for name in set(found["modules"]) - set(modules)}
    ours = {name for name in more if name not in sys.stdlib_module_names and not name.startswith("_cython")}
    assert ours <= {"pipe_runtime", "msgpack", "cython_runtime", "index"}


def test_function_with_a_msgpack_of_its_own_finds_that(tmp_path: Path) -> None:
    (tmp_path / "msgpack.py").write_text("version = 'mine'\n")
    source = "import msgpack, sys\ndef handler(event, context):\n    return msgpack.version\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        assert runtime.call() == "mine"
        assert runtime.call() == "mine"


def test_function_finds_the_msgpack_that_is_installed(tmp_path: Path) -> None:
    spec = util.find_spec("msgpack")
    assert spec is not None
    source = "import msgpack\ndef handler(event, context):\n    return msgpack.__file__\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        assert runtime.call() == spec.origin
