"""Tests that pipe-init needs no network: it makes no network socket and loads no module that could make one.

The first part watches system calls, the second reads the sources, and the third looks into running processes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import util
from pathlib import Path

import pytest

from pipe_testing import tools
from pipe_testing.command import Finished, PipeInit
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured  # coverage would load modules of its own

FUNCTIONS = """
import os, socket_names, subprocess, sys


def hello(event):
    return "hello"


def error(event):
    raise ValueError("no")


def talk(event):
    print("from print")
    os.system("echo from a shell")
    return subprocess.run(["echo", "from a child"], stdout=subprocess.PIPE, text=True).stdout


def crash_once(event):
    if event == "crash":
        os.abort()
    return event


def open_a_socket(event):
    import socket
    socket.socketpair()


def network_modules(event):
    return socket_names.loaded()
"""

NETWORK = frozenset(
    "_socket _ssl asyncio ftplib http httpx imaplib poplib requests smtplib socket socketserver ssl urllib urllib3 "
    "websockets wsgiref xmlrpc".split()
)
"""Top-level modules that use a network, or load a module that does."""

SOCKET_NAMES = f"""
import sys
NETWORK = {sorted(NETWORK)!r}
def loaded():
    # Of urllib, pathlib imports a parser of text.
    text = ("urllib", "urllib.parse")
    return sorted(name for name in sys.modules if name.partition(".")[0] in NETWORK and name not in text)
"""

RUN_AND_TELL = """
import os, sys
sys.argv[0] = "pipe-init"
from pipe_init.entry import run
code = run(sys.argv[1:])
sys.path.insert(0, os.environ["FUNCTION_FOLDER"])
import socket_names
assert "pipe_init.cli.runs.session" in sys.modules
import pipe_init.cli.run  # with click, which a plain command line has not loaded
print(code, socket_names.loaded(), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the function's folder."""
    folder = tmp_path_factory.mktemp("function")
    (folder / "index.py").write_text(FUNCTIONS)
    (folder / "socket_names.py").write_text(SOCKET_NAMES)
    return folder


# System calls


class Tracer:
    """Run pipe-init under strace(1)."""

    def __init__(self, strace: str, output: Path, home: Path) -> None:
        self._command = [strace, "-f", "-qq", "-s", "4096", "-e", "trace=network,execve", "-o", str(output)]
        self._output = output
        # Without HOME, Python asks libc for the home folder, and libc may ask a name service over a socket.
        self._changes = {"HOME": str(home)}

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[Finished, list[str], set[str]]:
        """Run `pipe-init ARGUMENTS`. Return how it ended, what was executed, and the names of other system calls."""
        runner = PipeInit()
        runner.command = [*self._command, *runner.command]
        done = runner(*arguments, stdin=stdin, env=self._changes)
        lines = self._output.read_text(errors="replace").splitlines()
        calls = [match for line in lines if (match := re.match(r"\d+ +(\w+)\((.*)", line))]
        executed = [match[2] for match in calls if match[1] == "execve"]
        return done, executed, {match[1] for match in calls} - {"execve"}


@pytest.fixture
def trace(require_tool: Callable[[str], str], tmp_path: Path) -> Tracer:
    """Return a Tracer: `trace("run", …)` gives how it ended, what was executed, and names of network system calls."""
    strace = require_tool("strace")
    why = refusal(strace)
    tools.require(not why, f"needs a strace that may trace: {why}")
    return Tracer(strace, tmp_path / "trace", tmp_path)


@cache
def refusal(strace: str) -> str:
    """Return why strace cannot trace here, or "" if it can."""
    done = subprocess.run(
        [strace, "-qq", "-e", "trace=execve", "true"], capture_output=True, check=False, timeout=HANGS
    )
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "no reason given"


def workers(executed: list[str]) -> int:
    """Return how many runtimes were started."""
    return sum("__main__.py" in line and "pipe_runtime" in line for line in executed)


def test_a_socket_would_be_seen(trace: Tracer, folder: Path) -> None:
    done, _, network = trace("run", "index.open_a_socket", "-q", "-C", str(folder))
    assert done.returncode == 0
    assert "socketpair" in network


@pytest.mark.parametrize(
    ("handler", "code", "programs"), [("hello", 0, 0), ("error", 1, 0), ("talk", 0, 2)], ids=["result", "error", "talk"]
)
def test_one_event_makes_no_socket(trace: Tracer, folder: Path, handler: str, code: int, programs: int) -> None:
    done, executed, network = trace("run", f"index.{handler}", "-C", str(folder))
    assert done.returncode == code
    assert workers(executed) == 1
    assert sum("= 0" in line for line in executed) >= 2 + programs  # the function's children were watched too
    assert network == set()


def test_events_make_no_socket(trace: Tracer, folder: Path) -> None:
    options = ("--events", "-", "-C", str(folder))
    done, executed, network = trace("run", "index.crash_once", *options, stdin=b'"a"\n"crash"\n"b"\n')
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first, second["errorType"], third) == ("a", "Runtime.ExitError", "b")
    assert workers(executed) == 2
    assert network == set()


def test_a_timeout_makes_no_socket(trace: Tracer, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef handler(event):\n    time.sleep(1000)\n")
    done, executed, network = trace("run", "slow.handler", "-t", "0.2", "-C", str(tmp_path))
    assert (done.returncode, workers(executed), network) == (124, 1, set())


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",), ("run",)], ids=" ".join)
def test_help_makes_no_socket(trace: Tracer, arguments: tuple[str, ...]) -> None:
    _, executed, network = trace(*arguments)
    assert executed
    assert network == set()


# Sources


def asked_for(source: str) -> Iterator[str]:
    """Yield the modules that `source` imports by a statement, or by a call with the name as its first argument."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name in ("stdlib", "import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value)


# Modules that open no network socket: an event loop, which opens only its own pair of sockets; percent escapes and
# status codes; and the pair of sockets on which a template receives descriptors.
HARMLESS = {
    "asgi.py": {"asyncio", "urllib.parse"},
    "exchange.py": {"asyncio"},
    "http_response.py": {"http"},
    "lifespan.py": {"asyncio"},
    "tasks.py": {"asyncio"},
    "fork_server.py": {"_socket"},
    "process.py": {"_socket"},
    "template_socket.py": {"_socket"},
    "http_trigger.py": {"urllib.parse"},
}


def for_networks(source: str) -> list[str]:
    """Return the imported modules that are for networks."""
    return [name for name in asked_for(source) if name.partition(".")[0] in NETWORK]


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "import os, http.client as c",
        "def f():\n    from urllib import request",
        "from asyncio.streams import open_connection",
        "namespace.stdlib('socket')",
        "stdlib('ssl')",
        "importlib.import_module('http.server')",
        "__import__('socketserver')",
    ],
)
def test_an_import_would_be_found(source: str) -> None:
    assert for_networks(source)


@pytest.mark.parametrize("package", ["pipe_init", "pipe_runtime"])
def test_no_source_asks_for_a_network(package: str) -> None:
    spec = util.find_spec(package)
    assert spec is not None and spec.origin is not None
    files = sorted(Path(spec.origin).parent.rglob("*.py"))
    assert len(files) > 10
    found = {file.name: set(for_networks(file.read_text("utf-8"))) - HARMLESS.get(file.name, set()) for file in files}
    assert {name: names for name, names in found.items() if names} == {}


# Running processes


def test_a_worker_has_loaded_nothing_for_networks(pipe_init: PipeInit, folder: Path) -> None:
    done = pipe_init("run", "index.network_modules", "-q", "-C", str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[]\n", b"")


@pytest.mark.parametrize(
    ("handler", "code", "events"), [("hello", 0, False), ("error", 1, False), ("crash_once", 134, True)]
)
def test_the_init_has_loaded_nothing_for_networks(folder: Path, handler: str, code: int, events: bool) -> None:
    options = ["--events", "-"] if events else []
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL, "run", f"index.{handler}", "-C", str(folder), *options],
        input=b'"a"\n"crash"\n"b"\n',
        capture_output=True,
        check=True,
        env={**os.environ, "FUNCTION_FOLDER": str(folder)},
        timeout=HANGS,
    )
    assert done.stderr.splitlines()[-1] == f"{code} []".encode()
