"""Tests of process settings that a function changes while it is loaded: no worker's death is missed.

The forking processes have the init's signal actions, mask and timers. Each worker has the function's. The templates are
real.
"""

from __future__ import annotations

import json
import os
import signal
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import exit_codes
from pipe_init.model import TEMPLATE
from pipe_init.policy.worker_failures import UNSEEN
from pipe_init.workers import launch
from pipe_testing.supervision import supervised
from pipe_testing.templates import DUMP, Driven, Templates

pytestmark = pytest.mark.unmeasured

ECHO = """
import os
def handler(event, context):
    if event == "die":
        os.kill(os.getpid(), 9)
    return event
"""

KEPT = "import os\nkill, getpid = os.kill, os.getpid\n"
KILLED = """
def handler(event, context):
    if event == "die":
        kill(getpid(), 9)
    return event
"""
"""The same if the function has replaced the calls."""

LATE = """
import gc, os
class Late:
    def __init__(self, control, waitid=os.waitid):
        self.control, self.waitid = control, waitid
    def __getattr__(self, name):
        return getattr(self.control, name)
    def send(self, data):
        size = self.control.send(data)
        if b" " in data and not os.path.exists("done"):
            open("done", "w").close()
            self.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return size
(server,) = [each for each in gc.get_objects() if type(each).__name__ == "ForkServer"]
server._control = Late(server._control)
"""
"""The process that forks the first worker lives until that worker, which it has reported, is dead."""

LIBC = "import ctypes\nlibc = ctypes.CDLL(None)\n"

HARMS = {
    "nothing": "",
    "children ignored": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    "children ignored below Python": LIBC + "libc.signal(17, ctypes.c_void_p(1))\n",
    "children handled below Python": LIBC + "libc.signal(17, libc.abs)\n",
    "children ignored in every fork": """
import os, signal
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
""",
    "children collected by a handler": """
import os, signal
def collect(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, collect)
""",
    "orphans adopted": LIBC + "libc.prctl(36, 1, 0, 0, 0)\n",
    "orphans adopted in every fork": LIBC
    + "import os\nos.register_at_fork(before=lambda: libc.prctl(36, 1, 0, 0, 0))\n",
    "every signal blocked": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n",
    "a timer": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000)\nsignal.signal(signal.SIGALRM, print)\n",
    "a wake-up descriptor": """
import os, signal
descriptors = os.pipe()
os.set_blocking(descriptors[1], False)
signal.set_wakeup_fd(descriptors[1])
""",
    "a TERM handler": "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n",
    "calls replaced": """
import fcntl, gc, os, resource, select, sys
def no(*_, **__):
    raise RuntimeError("replaced")
for name in ("fork", "waitpid", "pipe", "dup2", "read", "write", "close", "closerange", "setsid", "_exit", "getpid"):
    setattr(os, name, no)
gc.collect = gc.freeze = fcntl.fcntl = resource.setrlimit = resource.getrlimit = sys.exit = no
del select.poll
""",
    "fork hooks that raise": "import os\nos.register_at_fork(before=lambda: 1 / 0, after_in_child=lambda: 1 / 0)\n",
    "warnings are errors": """
import threading, warnings
warnings.simplefilter("error")
threading.Thread(target=threading.Event().wait, daemon=True).start()
""",
}

STATE = """
import ctypes, os, signal, threading
def handler(event, context):
    status = open("/proc/self/status").read().splitlines()
    adopts = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(adopts), 0, 0, 0)
    wakeup = signal.set_wakeup_fd(-1)
    return {
        "signals": [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))],
        "actions": [str(getattr(action, "__name__", action)) for action in map(signal.getsignal, range(1, 32))],
        "timers": [signal.getitimer(which)[0] > 0 for which in range(3)],
        "wakeup": wakeup >= 0,
        "adopts": adopts.value,
    }
"""


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_death_is_seen_whatever_the_function_has_set(tmp_path: Path, harm: str) -> None:
    """Check also a worker that dies before the process that forked it."""
    (tmp_path / "index.py").write_text(KEPT + LATE + harm + KILLED)
    with serving(tmp_path) as driver:
        first, second = driver.ask(b'"die"'), driver.ask(b'"live"')
        log = driver.log.read_text()
    assert first.problem is not None and first.exit_code == 128 + signal.SIGKILL, log
    assert first.problem["error_message"] == "RequestId: r1 Error: Runtime exited with error: signal: killed"
    assert second.problem is None and second.payload == b'"live"'
    assert "pipe-init:" not in log


@pytest.mark.parametrize("harm", [harm for name, harm in HARMS.items() if name != "calls replaced"])
def test_a_worker_has_the_functions_settings_as_an_executed_one(tmp_path: Path, harm: str) -> None:
    (tmp_path / "index.py").write_text(harm + STATE)
    with Driven(tmp_path, launch.start(launch.runtime_command(launch.this_python()), dict(os.environ))) as worker:
        worker.start(**DUMP)
        wanted = worker.call()
    with Templates(tmp_path, harm + STATE) as templates:
        templates.start()
        for worker in templates.fork(2):
            found = worker.call()
            if "register_at_fork" in harm:  # what the function's fork hooks set is set in the worker too
                wanted["signals"] = found["signals"] = wanted["actions"] = found["actions"] = None
                wanted["adopts"] = found["adopts"] = None
            assert found == wanted


def signals_of(pid: int) -> list[str]:
    """Return the signals that a process ignores, handles and blocks, except the signal for stacks."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]


@pytest.mark.parametrize("harm", [harm for name, harm in HARMS.items() if "signal" in harm and "fork" not in name])
def test_the_template_has_the_inits_settings(tmp_path: Path, harm: str) -> None:
    found = []
    for source in (ECHO, harm + ECHO):
        with Templates(tmp_path, source) as templates:
            templates.start()
            templates.fork()
            found.append(signals_of(templates.runtime.pid))
    assert found[0] == found[1]


def test_a_timer_does_not_end_the_template(tmp_path: Path) -> None:
    """Check that each worker has the timer with the time that was left, like an executed worker."""
    source = "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000, 7)\n"
    source += "def handler(event, context):\n    return signal.getitimer(signal.ITIMER_REAL)\n"
    with Templates(tmp_path, source) as templates:
        templates.start()
        left, interval = templates.fork()[0].call()
        assert 900 < left <= 1000 and interval == 7


def serving(folder: Path, **options: Any) -> Any:
    """Yield a Driver of the function in `folder`, whose workers come from a template."""
    hello = {"handler": "index.handler", "code_dir": str(folder), "environment": {}, "function": {}}
    command = launch.runtime_command(launch.this_python())
    return supervised(folder / "log", command, hello=hello, start_method=TEMPLATE, **options)


HOOK = "import os\nmine = os.getpid()\nos.register_at_fork({})\n"
GARBAGE = """
import os, stat, time
for descriptor in range(4, 64):
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.write(descriptor, b"\\xff" * 64)
    except OSError:
        pass
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("harm", "message", "error_type", "code"),
    [
        (
            HOOK.format("after_in_child=lambda: os._exit(0)"),
            "exit status 1 before it had forked the worker: the process that forks the workers has ended with exit "
            "status 0; a fork hook of the function's (os.register_at_fork) may have ended it",
            "Runtime.ExitError",
            exit_codes.NOT_LOADED,
        ),
        (
            HOOK.format("before=lambda: os._exit(7)"),
            "exit status 7 before it had forked the worker",
            "Runtime.ExitError",
            exit_codes.NOT_LOADED,
        ),
        (
            HOOK.format("after_in_child=lambda: os._exit(0) if os.getppid() != mine else None"),
            "exit status 0 after it was forked and before it was ready",
            "Runtime.ExitError",
            exit_codes.NOT_LOADED,
        ),
        (
            "import sys\nsys.addaudithook(lambda event, _: 1 / 0 if event == 'os.fork' else None)\n",
            "exit status 1 before it had forked the worker",
            "Runtime.ExitError",
            exit_codes.NOT_LOADED,
        ),
        ("import os\nos._exit(4)\n", "exit status 4 while it was loading the handler", "Runtime.ExitError", 3),
        (GARBAGE, "a frame of 4294967295 bytes; the limit is 16777216", "Runtime.ProtocolError", exit_codes.PROTOCOL),
        (
            "import os, signal\nos.closerange(3, 256)\nsignal.pause()\n",  # it must not end before the init sees it
            "the template closed its control socket; does the function close all descriptors?",
            "Runtime.ProtocolError",
            exit_codes.PROTOCOL,
        ),
    ],
    ids=["forking process", "before", "worker", "audit hook", "loading", "garbage", "descriptors"],
)
def test_the_message_says_what_has_happened(
    tmp_path: Path, harm: str, message: str, error_type: str, code: int
) -> None:
    (tmp_path / "index.py").write_text(textwrap.dedent(harm) + ECHO)
    with serving(tmp_path) as driver:
        outcome = driver.ask()
    assert outcome.problem is not None
    assert outcome.problem["error_message"].endswith(message)
    assert (outcome.problem["error_type"], outcome.exit_code) == (error_type, code)


def test_a_seed_that_fails_is_a_fault_of_loading(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(
        "import sys, types\nmodule = sys.modules['numpy.random'] = types.ModuleType('numpy.random')\n"
        "module.seed = lambda: 1 / 0\n" + ECHO
    )
    with serving(tmp_path) as driver:
        outcome = driver.ask()
    assert outcome.problem is not None and outcome.exit_code == exit_codes.NOT_LOADED
    assert outcome.problem["error_type"] == "ZeroDivisionError"


def test_a_fork_hook_that_hangs_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(HOOK.format("after_in_child=lambda: os.read(os.pipe()[0], 1)") + ECHO)
    with serving(tmp_path, start_timeout=0.5, start_attempts=1) as driver:
        outcome = driver.ask()
    assert outcome.problem is not None and outcome.problem["error_type"] == "Sandbox.Timedout"
    assert "a fork hook of the function's (os.register_at_fork) may hang" in json.dumps(outcome.problem["stack"])


def test_a_worker_that_its_fork_hook_has_collected_is_given_up(tmp_path: Path) -> None:
    """Check a worker whose exit status a fork hook has taken. The init gives it up and does not wait for it."""
    (tmp_path / "index.py").write_text(LATE.replace("os.WEXITED | os.WNOWAIT", "os.WEXITED") + ECHO)
    with serving(tmp_path) as driver:
        first, second = driver.ask(b'"die"'), driver.ask(b'"live"')
        log = driver.log.read_text()
    assert first.problem is not None and first.problem["error_message"] == f"RequestId: r1 Error: {UNSEEN}"
    assert first.exit_code == exit_codes.FUNCTION_FAILED
    assert second.payload == b'"live"' and not log
