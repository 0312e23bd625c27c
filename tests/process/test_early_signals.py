"""Tests of signals before a worker is started: the command ends with 128 and the signal's number, and prints nothing.

`exec` does not end in this case: it keeps the signals for its program (test_exec_signals.py). The process sends the
signal to itself just before a chosen step, so no test depends on time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured

STEP = """
import os, signal, sys
from pipe_init import __main__, entry, module_path
def interrupted(*_):
    os.kill(os.getpid(), {number})
    print("still there", flush=True)
{module}.{step} = interrupted
sys.argv[1:] = {arguments}
__main__.main()
"""

STEPS = {
    "clean the path": ("module_path", "clean", ["run", "index.handler"]),
    "carry out": ("entry", "run", ["run", "index.handler"]),
    "help": ("entry", "run", ["--help"]),
}


def interrupted_at(step: str, number: int, *ignored: int) -> subprocess.CompletedProcess[bytes]:
    """Run a command that gets a signal at one of STEPS. Its parent has set the signals in `ignored` to be ignored."""
    module, name, arguments = STEPS[step]
    code = STEP.format(number=int(number), module=module, step=name, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=HANGS,
        env=unmeasured(),
        preexec_fn=lambda: [signal.signal(each, signal.SIG_IGN) for each in ignored],
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("step", STEPS)
def test_it_ends_quietly(step: str, number: signal.Signals) -> None:
    done = interrupted_at(step, number)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")


def test_what_the_parent_has_had_ignored_stays_ignored() -> None:
    done = interrupted_at("clean the path", signal.SIGINT, signal.SIGINT)
    assert done.stdout.startswith(b"still there\n")


AT_IMPORT = """
import os, sys
def interrupt(event, arguments):
    if event == "import" and arguments[0] == "pipe_init" and not sent:
        sent.append(True)
        os.kill(os.getpid(), {number})
sent = []
sys.addaudithook(interrupt)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_script_ends_quietly_before_it_has_found_the_package(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT.format(number=int(number)))
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "pipe-init"), "run", "index.handler"],
        capture_output=True,
        timeout=HANGS,
        env={**unmeasured(), "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")
