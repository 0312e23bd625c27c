"""Tests of which module may import which, and of what a runtime process imports before it is ready.

The first half reads the sources, so it also sees late imports inside functions. The second half runs a fresh
interpreter. Each import makes a cold start slower, and a function may have a module of the same name.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from pipe_testing.environment import unmeasured
from pipe_testing.imports import imports_of, within
from pipe_testing.runtime import RuntimeProcess

# What `import` may name in pipe_runtime, late or not: modules that are built in, frozen, or loaded before the
# function's path is set. Anything else comes from namespace.stdlib(), where a function's json.py cannot take its place.
RUNTIME_IMPORTS = {
    "__future__",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_operator",
    "_signal",
    "_socket",
    "_thread",
    "atexit",
    "builtins",
    "errno",
    "faulthandler",
    "fcntl",
    "io",
    "msgpack",
    "os",
    "pipe_runtime",
    "resource",
    "select",
    "struct",
    "sys",
    "time",
}
# Imports of modules that belong to the function: context.logger belongs to its own logging, and a library of its
# environment makes typed events.
IMPORTS_OF = {"pipe_runtime.call.context": {"logging"}, "pipe_runtime.adapters.typed": {"msgspec", "pydantic"}}

# All that `import pipe_runtime.main` may load into an interpreter started with -I -S. More would make starts slower.
BEFORE_READY = {
    "pipe_runtime",
    *(f"pipe_runtime.{room}" for room in ("call", "io", "load", "log", "serve", "wire")),
    *(f"pipe_runtime.wire.{name}" for name in ("connection", "errors", "frames", "messages", "spin")),
    *(f"pipe_runtime.call.{name}" for name in ("codec", "context", "faults", "usage")),
    *(f"pipe_runtime.io.{name}" for name in ("outbox", "pipes", "signal_guard")),
    "pipe_runtime.limits",
    "pipe_runtime.load.handler",
    "pipe_runtime.log.writer",
    *(f"pipe_runtime.serve.{name}" for name in ("function", "hello", "loop", "process")),
    "pipe_runtime.main",
    "pipe_runtime.namespace",
    "__future__",
    "_signal",
    "_thread",
    "atexit",
    "faulthandler",
    "fcntl",
    "resource",
    "select",
    "time",
    # os, which `site` would have loaded
    "_collections_abc",
    "_stat",
    "genericpath",
    "os",
    "os.path",
    "posixpath",
    "stat",
    # msgpack, and what it imports
    "_collections",
    "_datetime",
    "_operator",
    "_struct",
    "collections",
    "cython_runtime",
    "datetime",
    "itertools",
    "keyword",
    "math",
    "msgpack",
    "msgpack._cmsgpack",
    "msgpack.exceptions",
    "msgpack.ext",
    "msgpack.fallback",
    "operator",
    "reprlib",
    "struct",
}
if sys.version_info >= (3, 14):  # older interpreters load these themselves before the first line
    BEFORE_READY |= {"_abc", "abc", "collections.abc", "errno", "io"}
CYTHON = "_cython_"  # the name of its shared module ends with its version


def test_click_only_in_the_command_line() -> None:
    files = {f"pipe_init.cli.{name}" for name in ("click_commands", "exec", "options.grouped", "run")}
    wrong = [
        str(found)
        for package in ("pipe_init", "pipe_runtime")
        for found in imports_of(package)
        if within(found.target, "click") and found.importer not in files
    ]
    assert not wrong


def test_runtime_names_only_light_modules() -> None:
    wrong = [
        str(found)
        for found in imports_of("pipe_runtime")
        if not found.types_only
        and found.target.split(".")[0] not in RUNTIME_IMPORTS | IMPORTS_OF.get(found.importer, set())
    ]
    assert not wrong


def package_folders() -> list[str]:
    """Return the folders of our packages and of those that they need."""
    folders = []
    for package in ("pipe_runtime", "msgpack", "click"):
        spec = util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
        folders.append(str(Path(spec.submodule_search_locations[0]).parent))
    return folders


def modules_loaded_by(module: str) -> set[str]:
    """Return what `import module` adds to sys.modules in a fresh interpreter.

    The options -I -S keep out site, .pth files and the environment, coverage included, so nothing hides what the import
    adds. The packages' folders are on the path instead.
    """
    code = (
        "import sys; before = set(sys.modules); sys.path[:0] = sys.argv[2:]; __import__(sys.argv[1]); "
        "print(*sorted(set(sys.modules) - before))"
    )
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, module, *package_folders()],
        capture_output=True,
        env=unmeasured(),
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def test_runtime_loads_only_these_modules_before_ready() -> None:
    loaded = modules_loaded_by("pipe_runtime.main")
    assert "pipe_runtime.main" in loaded
    more = {name for name in loaded - BEFORE_READY if not name.startswith(CYTHON)}
    assert not more, "the cold start grew: import these late, or show that it must be"


def test_plain_function_finds_only_these_modules(tmp_path: Path) -> None:
    source = "import sys\ndef handler(event, context):\n    return sorted(sys.modules)\n"
    with RuntimeProcess(tmp_path, source, environment=unmeasured()) as runtime:
        runtime.start()
        found = runtime.call()
    assert isinstance(found, list)
    ours = {name for name in BEFORE_READY if within(name, "pipe_runtime")}
    assert {name for name in found if within(name, "pipe_runtime")} == ours
    heavy = {"asyncio", "contextvars", "dataclasses", "inspect", "logging", "threading", "typing"}
    assert not heavy & set(found)


# All that the init loads for a plain `pipe-init run`. The worker starts meanwhile, in about the same time: more would
# make every run slower.
PLAIN_RUN = {
    "pipe_init",
    *(f"pipe_init.{room}" for room in ("cli", "engine", "kernel", "limits", "log", "policy", "workers")),
    *(f"pipe_init.cli.{room}" for room in ("function", "options", "results", "runs")),
    *(f"pipe_init.{name}" for name in ("__main__", "entry", "model", "module_path")),
    "pipe_init.cli.main",
    *(f"pipe_init.cli.function.{name}" for name in ("aws_region", "checks", "describe", "identity")),
    *(f"pipe_init.cli.options.{name}" for name in ("command_line", "kinds", "run_options", "usage_errors")),
    *(f"pipe_init.cli.results.{name}" for name in ("output", "run_exit_code", "terminal")),
    *(f"pipe_init.cli.runs.{name}" for name in ("event_input", "session", "single_run")),
    *(
        f"pipe_init.engine.{name}"
        for name in ("body_streams", "collector", "dispatch", "lane", "open_requests", "supervisor")
    ),
    *(f"pipe_init.kernel.{name}" for name in ("execution", "exit_codes", "host", "killing", "outlet")),
    *(f"pipe_init.kernel.{name}" for name in ("plain_files", "poller", "prctl", "procfs", "reaper", "plain_classes")),
    *(f"pipe_init.kernel.{name}" for name in ("shortage", "signals")),
    *(f"pipe_init.limits.{name}" for name in ("confinement", "rlimits")),
    *(f"pipe_init.log.{name}" for name in ("journal", "request_lines")),
    *(
        f"pipe_init.policy.{name}"
        for name in ("actions", "ladder", "limit_hit", "policy", "tickets", "worker_failures")
    ),
    "pipe_init.policy.stackdump",
    *(f"pipe_init.workers.{name}" for name in ("child", "early", "launch", "link", "observer")),
    "pipe_init.workers.worker_source",
    "pipe_runtime",
    "pipe_runtime.wire",
    *(f"pipe_runtime.wire.{name}" for name in ("alive_pipe", "connection", "errors", "frames", "messages", "spin")),
    # for prctl(2), and to check the event
    "_ctypes",
    "ctypes",
    "ctypes._endian",
    "types",
    "_json",
    # imported before the worker is forked
    "gc",
    "errno",
    "collections.abc",
    # a worker loads all other modules, too
    *(name for name in BEFORE_READY if not name.startswith("pipe_runtime")),
}

if sys.version_info >= (3, 14):  # ctypes imports sysconfig, which imports threading
    PLAIN_RUN |= {"_contextvars", "_types", "_weakrefset", "sysconfig", "threading"}

RUN_AND_LIST = """
import os, sys
before = set(sys.modules)
sys.path[:0] = sys.argv[2:]
from pipe_init import __main__, entry, module_path
module_path.clean()
from pipe_init.kernel import shortage
code = entry.run(["run", "index.handler", "-C", sys.argv[1], *{arguments}])
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def modules_of_run(folder: Path, *arguments: str) -> set[str]:
    """Return what the init loads for a run with these arguments."""
    (folder / "index.py").write_text("def handler(event, context):\n    return event\n")
    code = RUN_AND_LIST.format(arguments=list(arguments))
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(folder), *package_folders()],
        capture_output=True,
        env=unmeasured(),
        text=True,
        stdin=subprocess.DEVNULL,
    )
    exit_code, *loaded = child.stderr.splitlines()[-1].split()
    assert exit_code == "0", child.stderr
    return set(loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-e", '{"a": [1, "x"]}'),
        ("-q", "--timeout=5", "-E", "A=1", "--raw"),
        ("--platform", "fc", "-f", "/dev/null"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_plain_run_loads_only_these_modules(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    loaded = modules_of_run(tmp_path, *arguments)
    assert "pipe_init.cli.runs.session" in loaded
    more = {name for name in loaded - PLAIN_RUN if not name.startswith(CYTHON)}
    assert not more, "the start of `run` grew: import these late, or show that it must be"


def test_an_unusual_run_loads_click(tmp_path: Path) -> None:
    assert "click" in modules_of_run(tmp_path, "-qe", "{}")


def test_init_loads_nothing_at_once() -> None:
    assert modules_loaded_by("pipe_init") - {"__future__"} == {"pipe_init"}


def test_cgroups_are_loaded_only_where_one_is_asked_for() -> None:
    late = {"pipe_init.limits.cgroup", "pipe_init.limits.delegation"}
    assert not late & modules_loaded_by("pipe_init.engine.supervisor")
    found = [each for each in imports_of("pipe_init") if not each.types_only]
    importers = {target: {each.importer for each in found if each.target == target} for target in late}
    assert importers["pipe_init.limits.cgroup"] == {"pipe_init.limits.delegation"}
    assert importers["pipe_init.limits.delegation"] == {"pipe_init.limits.confinement"}
