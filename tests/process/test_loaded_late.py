"""Tests of modules that are loaded only when they are needed. Each case runs in an interpreter of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from pipe_runtime.adapters import asgi
from pipe_testing.environment import unmeasured


def test_asyncio_comes_with_this_module_only() -> None:
    code = "import sys, pipe_runtime.main; print(*({'asyncio', 'pipe_runtime.adapters'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True, cwd="/")
    assert ended.stdout == b"\n"
    assert asgi.asyncio is asyncio


def test_the_short_way_of_exec_loads_neither_click_nor_the_protocol() -> None:
    code = "import sys; from pipe_init.entry import run; from pipe_init.exec import exec_options, plain_init; "
    code += "print(sorted({'click', 'msgpack', 'pipe_runtime.wire.frames', 'pipe_init.engine'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True)
    assert done.stdout == b"[]\n"


def test_a_run_takes_charge_of_signals_first_with_and_without_a_worker() -> None:
    code = "import signal; from pipe_init.workers.early import start_early; early = start_early(); "
    code += "print(callable(signal.getsignal(signal.SIGTERM)), early.process)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True)
    assert done.stdout == b"True None\n"
