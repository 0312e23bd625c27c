"""What holds for every test: nothing is left behind, and a seed reproduces every failure.

Helpers that are no fixtures are in testing/pipe_testing. Nothing here imports pipe_init or pipe_runtime, so
that collecting the tests works where the product itself is broken.
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
os.environ["PIPE_INIT_SEED"] = str(SEED)  # for the processes among which pytest-xdist divides the tests

# No deadline: how long an example takes on a busy machine says nothing about the code.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before hypothesis' own plugin reads its option: one seed for it and for the `seed` fixture."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = SEED
    processes.become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # as in a shell's background job, and so in all that we start
            signal.signal(number, signal.SIG_DFL)


def pytest_report_header() -> list[str]:
    """Name the seed, and what is under test."""
    kind = "pure Python" if os.environ.get("MSGPACK_PUREPYTHON") else "C where it was built"
    found = (util.find_spec(name) for name in ("pipe_init", "pipe_runtime"))
    return [
        f"seed: {SEED} (PIPE_INIT_SEED={SEED} runs the same again)",
        f"msgpack: {metadata.version('msgpack')}, {kind}",
        f"under test: {', '.join(str(spec.origin) if spec else 'not installed' for spec in found)}",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """No coverage in the children of a test that is marked `unmeasured`, nor in those of its fixtures.

    Nor in other modes than the first: processes that are forked for one request each would only write coverage's data.
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

    What a wider fixture has made may stay.
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
    """Each test of a module that has MODES can run in each of them, but for those that it is not marked for."""
    if hasattr(metafunc.module, "MODES"):
        metafunc.parametrize("process_mode", _modes_of(metafunc.definition), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what modes.py does not want in this run."""
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


def _modes_of(item: Any) -> tuple[str, ...]:
    """Those that a test of a module with MODES can run in."""
    mark = item.get_closest_marker("modes")
    allowed: tuple[str, ...] = item.module.MODES
    return allowed if mark is None else tuple(mode for mode in mark.args if mode in allowed)


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


@pytest.fixture(autouse=True)
def process_mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the commands of the test start their workers; modes.py says what there is."""
    modes.chosen = getattr(request, "param", modes.EXEC)
    yield modes.chosen
    modes.chosen = modes.EXEC


@pytest.fixture
def seed() -> int:
    """A number for random.Random(seed); the same for the whole run, and shown with a failure."""
    print(f"PIPE_INIT_SEED={SEED}")
    return SEED


@pytest.fixture
def require_tool() -> Callable[[str], str]:
    """`require_tool("bwrap")` -> its path. Without it the test skips, or fails where PIPE_INIT_CI=1."""
    return tools.require_tool


@pytest.fixture
def page() -> Iterator[tuple[int, int]]:
    """(reader, writer) of a pipe that holds one page. A test may close either."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    """A named pipe for a function to hold open."""
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()


@pytest.fixture
def pipe_init() -> command.PipeInit:
    """`pipe_init("run", "index.handler", cwd=folder)` -> returncode, stdout, stderr (bytes); never hangs."""
    return command.PipeInit()
