"""Fixtures and hooks for all tests. No test may leave anything behind, and a seed reproduces every failure.

Helpers that are not fixtures are in testing/pipe_testing. This file imports neither pipe_init nor pipe_runtime, so that
tests can be collected even if the product is broken.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pipe_testing import command, descriptors, modes, processes, tools
from pipe_testing.fifo import Fifo

SEED = int(os.environ.get("PIPE_INIT_SEED") or random.SystemRandom().getrandbits(32))
os.environ["PIPE_INIT_SEED"] = str(SEED)  # for the processes in which pytest-xdist runs the tests

# No deadline: the time that an example takes on a busy machine tells nothing about the code.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set one seed for hypothesis and for the `seed` fixture, before hypothesis reads its own option."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = SEED
    processes.become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # a shell's background job ignores it, and so would our children
            signal.signal(number, signal.SIG_DFL)


def pytest_report_header() -> list[str]:
    """Show the seed and what is under test."""
    kind = "pure Python" if os.environ.get("MSGPACK_PUREPYTHON") else "C where it was built"
    found = (util.find_spec(name) for name in ("pipe_init", "pipe_runtime"))
    return [
        f"seed: {SEED} (PIPE_INIT_SEED={SEED} runs the same again)",
        f"msgpack: {metadata.version('msgpack')}, {kind}",
        f"under test: {', '.join(str(spec.origin) if spec else 'not installed' for spec in found)}",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Turn off coverage in the children of a test that is marked `unmeasured`, and in those of its fixtures.

    Also turn it off in all modes except the first. Processes that are forked for one request each would spend their
    time on writing coverage's data.
    """
    in_another_mode = _params(item).get("process_mode", modes.EXEC) != modes.EXEC
    unmeasured = in_another_mode or item.get_closest_marker("unmeasured")
    taken = {name: value for name, value in os.environ.items() if unmeasured and name.startswith("COVERAGE_")}
    for name in taken:
        del os.environ[name]
    try:
        return (yield)
    finally:
        os.environ.update(taken)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a process, a zombie, an open descriptor or a signal handler.

    What a fixture of a wider scope has made may stay.
    """
    children = processes.children()
    before = descriptors.open_descriptors()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    left = [f"left a process: {line}" for line in processes.end_children(keep=children)]
    left += [f"left a descriptor open: {line}" for line in descriptors.leaked(before)]
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            left.append(f"left a handler for signal {number}: {signal.getsignal(number)}")
            signal.signal(number, handler)
    if left:
        pytest.fail("\n".join(left), pytrace=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let each test of a module with MODES run in each of its modes, except those that the test's mark leaves out."""
    if hasattr(metafunc.module, "MODES"):
        metafunc.parametrize("process_mode", _modes_of(metafunc.definition), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that modes.py does not want in this run, and let the heavy ones run last."""
    left_out = []
    for item in items:
        mode = _params(item).get("process_mode")
        if mode is not None:
            others = re.sub(rf"(?<=[\[-]){mode}(?=[]-])", "", item.nodeid)
            if not modes.wanted(others, mode, _modes_of(item)):
                left_out.append(item)
    if left_out:
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("heavy") is not None)


def _modes_of(item: Any) -> tuple[str, ...]:
    """Return the modes in which a test of a module with MODES can run."""
    mark = item.get_closest_marker("modes")
    allowed: tuple[str, ...] = item.module.MODES
    return allowed if mark is None else tuple(mode for mode in mark.args if mode in allowed)


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


@pytest.fixture(autouse=True)
def process_mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Set how the test's commands start their workers. modes.py lists the modes."""
    modes.chosen = getattr(request, "param", modes.EXEC)
    yield modes.chosen
    modes.chosen = modes.EXEC


@pytest.fixture
def seed() -> int:
    """Return a number for random.Random(seed). It is the same for the whole run and is shown with a failure."""
    print(f"PIPE_INIT_SEED={SEED}")
    return SEED


@pytest.fixture
def require_tool() -> Callable[[str], str]:
    """Return a function that returns the path of a program. Without the program the test skips, or fails under CI."""
    return tools.require_tool


@pytest.fixture
def page() -> Iterator[tuple[int, int]]:
    """Yield the reading and the writing end of a pipe that holds one page. A test may close either."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    """Yield a named pipe that a function can hold open."""
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()


@pytest.fixture
def pipe_init() -> command.PipeInit:
    """Return a function that runs the command: `pipe_init("run", "index.handler", cwd=folder)`. It never hangs."""
    return command.PipeInit()
