"""Tests of each limit with a function that breaks it, on the command line. No limit is taken for another.

All limits are given at once. They are rlimits here; test_cgroups.py has the same with a cgroup. The functions are in
functions/limits.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.tools import require

FUNCTIONS = Path(__file__).parents[1] / "functions" / "limits"
MIB = 2**20

# The time limit only ends a case that hangs. No other case comes near it; the limit on time has tests of its own. It
# cannot be much lower: the slowest case uses 2 s of CPU time, which took 19 s on two CPUs beside 16 busy loops in
# sessions of their own.
LIMITS = ("-m", "150", "--cpu-time", "1", "--open-files", "64", "--file-size", "1", "--output-limit", "1", "-t", "60")
ALL = (*LIMITS, "--grace", "0.2", "-q")

# do: (error type, exit code, the limit's name, its value, the lowest and the highest peak, or None)
# For memory the last is the resident memory, because RLIMIT_DATA does not count resident memory.
BROKEN: dict[str, tuple[str, int, str | None, int | None, tuple[float, float] | None]] = {
    "memory": ("MemoryError", 1, "memory", 150 * MIB, (130 * MIB, 250 * MIB)),
    "memory_of_threads": ("RuntimeError", 1, "memory", 150 * MIB, (0, 250 * MIB)),
    "cpu": ("Runtime.CpuTimeExceeded", 152, "cpu_time", 1000, (1000, 2000)),
    "cpu_undeterred": ("Runtime.CpuTimeExceeded", 152, "cpu_time", 1000, (1400, 3000)),
    "cpu_signal_only": ("Runtime.ExitError", 152, None, None, None),
    "killed_near_the_cpu_limit": ("Runtime.ExitError", 137, None, None, None),
    "killed": ("Runtime.ExitError", 137, None, None, None),
    "open_files": ("OSError", 1, "open_files", 64, (64, 64)),
    "limit_of_others": ("OSError", 1, "open_files", 20, (20, 20)),
    "file_size": ("OSError", 1, "file_size", MIB, None),
    "file_size_by_signal": ("Runtime.FileSizeExceeded", 153, "file_size", MIB, None),
    "output": ("Function.ResponseSizeTooLarge", 1, "output", MIB, (3 * MIB, 3 * MIB + 2)),
    "output_in_pieces": ("Function.ResponseSizeTooLarge", 1, "output", MIB, (MIB + 1, MIB + 65536)),
    "would_block": ("BlockingIOError", 1, None, None, None),
}


def check(name: str, error: dict[str, Any]) -> None:
    """Fail unless `error` is the one in BROKEN."""
    kind, _, limit, value, peak = BROKEN[name]
    assert error["errorType"] == kind, error
    found = error.get("limit", {})
    assert (found.get("name"), found.get("value")) == (limit, value), error
    measured = found.get("resident" if limit == "memory" else "peak")
    assert ("counts" in found) == (limit == "memory") and ("peak" in found) <= (limit != "memory")
    if limit == "cpu_time" and measured is None:
        return  # the kernel's own count was at the limit, and what it reports afterwards is lower
    assert (measured is not None) == (peak is not None)
    assert peak is None or peak[0] <= measured <= peak[1]


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """Make a folder with the functions in which a test may write."""
    shutil.copy(FUNCTIONS / "breaks.py", tmp_path)
    return tmp_path


def case(name: str) -> Any:
    """Return a case. Coverage opens files and takes memory, so it is not measured where one of them is the limit."""
    unmeasured = name == "memory" or BROKEN[name][2] == "open_files"
    return pytest.param(name, marks=pytest.mark.unmeasured if unmeasured else ())


@pytest.mark.parametrize("name", [*map(case, BROKEN)])
def test_each_limit_has_its_own_error(pipe_init: PipeInit, function: Path, name: str) -> None:
    finished = pipe_init("run", "breaks.handler", "-e", json.dumps({"do": name}), *ALL, cwd=function)
    error = json.loads(finished.stderr.splitlines()[-1])
    check(name, error)
    assert finished.returncode == BROKEN[name][1]
    if name == "cpu":  # the stack must show where the time was spent
        assert "in cpu" in error["stackTrace"][-1]
        assert "CPU time exceeded: the limit is 1 second" in error["errorMessage"]


def test_one_after_the_other(pipe_init: PipeInit, function: Path) -> None:
    # For these the worker's earlier use decides. So each is tested alone, or before all others, in a new worker.
    alone = ("memory_of_threads", "limit_of_others", "cpu", "cpu_undeterred", "killed_near_the_cpu_limit")
    first = ("killed", "cpu_signal_only")
    names = [*first, *(name for name in BROKEN if name not in (*alone, *first))]
    events = [line for name in names for line in (name, "fine")]
    stdin = "\n".join(json.dumps({"do": name}) for name in events).encode()
    finished = pipe_init("run", "breaks.handler", "--events", "-", *ALL, stdin=stdin, cwd=function)
    results = [json.loads(line) for line in finished.stdout.splitlines()]
    for name, result, after in zip(names, results[::2], results[1::2], strict=True):
        check(name, result)
        assert isinstance(after, int), (name, after)
    assert finished.returncode == 137  # from the worker that was killed


FILLS = """
cache = []

def fill(event):
    for number in range(100_000):
        cache.append('%d %d' % (event, number))

def fails(event):
    fill(event)
    return 'done'

def catches(event):
    try:
        while True:
            fill(event)
    except MemoryError:
        return 'done'

async def fails_in_a_task(event):
    return fails(event)
"""
"""The source of functions that keep all the memory that they can get."""


def errors_of_fills(pipe_init: PipeInit, folder: Path, name: str, *arguments: str) -> list[dict[str, Any]]:
    """Send 40 requests to a function in FILLS. Check that each has an outcome, and return the errors."""
    (folder / "fills.py").write_text(FILLS)
    events = "".join(f"{number}\n" for number in range(40)).encode()
    finished = pipe_init("run", f"fills.{name}", "--events", "-", *arguments, "-q", stdin=events, cwd=folder)
    results = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(results) == 40
    return [result for result in results if result != "done"]


def told_of_memory(error: dict[str, Any]) -> bool:
    """Return whether an error is the function's own MemoryError with the limit, and not the end of its worker."""
    return (error["errorType"], error.get("limit", {}).get("name")) == ("MemoryError", "memory")


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fails", ("-m", "96")),
        ("fails", ("-m", "128")),
        ("fails", ("-m", "96", "--start-method", "template")),
        ("fails_in_a_task", ("-m", "96")),
    ],
    ids=["96", "128", "template", "task"],
)
def test_a_function_that_keeps_its_memory_full(
    pipe_init: PipeInit, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    """Check that each request's error names the limit, and that the worker can still read the next request.

    A worker that ended would be replaced, and the next one would first serve a dozen requests without an error.
    """
    errors = errors_of_fills(pipe_init, tmp_path, name, *arguments)
    assert len(errors) >= 20
    assert all(map(told_of_memory, errors)), errors


@pytest.mark.unmeasured
def test_a_function_that_keeps_its_memory_full_and_goes_on(pipe_init: PipeInit, tmp_path: Path) -> None:
    """Check that the worker goes on if the function catches each MemoryError, so that no error names the limit."""
    errors = errors_of_fills(pipe_init, tmp_path, "catches", "-m", "128")
    assert all(map(told_of_memory, errors)), errors  # the runtime itself may lack memory for the result


@pytest.mark.unmeasured
def test_threads_that_keep_their_memory_full(pipe_init: PipeInit, tmp_path: Path) -> None:
    """Check that most requests' errors name the limit. Threads may meanwhile take the memory that the runtime needs.

    Then the worker may end, which costs the requests that it has.
    """
    errors = errors_of_fills(pipe_init, tmp_path, "fails", "-m", "200", "--concurrency", "3")
    ended = [error for error in errors if not told_of_memory(error)]
    assert {error["errorType"] for error in ended} <= {"Runtime.ExitError", "MemoryError", "SystemError"}
    assert len(ended) < len(errors)


def test_too_late_is_no_other_limit(pipe_init: PipeInit, function: Path) -> None:
    arguments = ("-e", '{"do": "hangs"}', *ALL, "-t", "0.3")
    finished = pipe_init("run", "breaks.handler", *arguments, cwd=function)
    error = json.loads(finished.stderr.splitlines()[-1])
    assert (finished.returncode, error["errorType"]) == (124, "Sandbox.Timedout")
    assert (error["limit"]["name"], error["limit"]["value"]) == ("time", 300)
    assert error["limit"]["peak"] >= 300


def test_a_long_time_that_is_no_cpu_time(pipe_init: PipeInit, function: Path) -> None:
    """Check a worker with a limit of one second of CPU time that waits for longer."""
    (function / "waits.py").write_text("import time\ndef handler(event):\n    time.sleep(1.2)\n    return 'done'\n")
    finished = pipe_init("run", "waits.handler", *ALL, cwd=function)
    assert finished.stdout == b'"done"\n'


def test_a_function_below_all_limits(pipe_init: PipeInit, function: Path) -> None:
    finished = pipe_init("run", "breaks.handler", "-e", '{"do": "fine"}', *ALL, cwd=function)
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_what_came_before_the_cut_is_printed(pipe_init: PipeInit, function: Path) -> None:
    arguments = ("-e", '{"do": "output_in_pieces"}', "--raw", "--output-limit", "2", "-q")
    (function / "pieces.py").write_text("import breaks\ndef handler(event):\n    return breaks.output_in_pieces()\n")
    finished = pipe_init("run", "pieces.handler", *arguments, cwd=function)
    assert finished.returncode == 1
    assert 0 < len(finished.stdout) <= 2 * MIB
    assert set(finished.stdout) == {ord("x")}


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_stream_that_goes_on_after_the_cut_delays_no_request(
    pipe_init: PipeInit, function: Path, concurrency: str
) -> None:
    stdin = b'{"do": "output_for_ever"}\n{"do": "fine"}\n{"do": "fine"}\n'
    arguments = ("--events", "-", "--output-limit", "1", "--grace", "0.2", "--concurrency", concurrency, "-q")
    finished = pipe_init("run", "breaks.handler", *arguments, stdin=stdin, cwd=function)
    first, *rest = (json.loads(line) for line in finished.stdout.splitlines())
    assert (first["errorType"], first["limit"]["name"]) == ("Function.ResponseSizeTooLarge", "output")
    assert [type(each) for each in rest] == [int, int]
    assert finished.returncode == 1


def test_log_lines_beyond_the_limit_are_counted(pipe_init: PipeInit, function: Path) -> None:
    finished = pipe_init("run", "breaks.handler", "-e", '{"do": "log"}', "--log-limit", "10", "-q", cwd=function)
    assert (finished.returncode, finished.stdout) == (0, b'"logged"\n')
    *lines, last = finished.stderr.splitlines()
    assert 5 <= len(lines) <= 10
    assert last.startswith(b"pipe-init: %d log lines" % (100 - len(lines)))
    assert b"may log 10240 bytes" in last


def test_what_is_dropped_is_told_as_json_with_its_request(pipe_init: PipeInit, function: Path) -> None:
    arguments = ("-e", '{"do": "log"}', "--log-limit", "10", "--log-style", "json")
    finished = pipe_init("run", "breaks.handler", *arguments, cwd=function)
    lines = [json.loads(line) for line in finished.stderr.splitlines()]
    (dropped,) = [line for line in lines if "were dropped" in str(line.get("message"))]
    assert dropped["message"].startswith("pipe-init: ")
    assert dropped["requestId"] in {line.get("record", {}).get("requestId") for line in lines}


@pytest.mark.unmeasured
def test_as_text(pipe_init: PipeInit, function: Path) -> None:
    arguments = ("-e", '{"do": "open_files"}', "--open-files", "32", "--error-style", "text", "-q")
    finished = pipe_init("run", "breaks.handler", *arguments, cwd=function)
    assert finished.stderr.endswith(b"\nLimit: open_files 32, peak 32\n")


@pytest.mark.unmeasured
def test_variables(pipe_init: PipeInit, function: Path) -> None:
    env = {"PIPE_INIT_OPEN_FILES": "32", "PIPE_INIT_FILE_SIZE": "1"}
    finished = pipe_init("run", "breaks.handler", "-e", '{"do": "open_files"}', "-q", cwd=function, env=env)
    assert json.loads(finished.stderr.splitlines()[-1])["limit"]["value"] == 32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cpus", "0.5"), (b"--cgroup", b"controller cpu")),
        (("--cpus", "nan"), (b"--cpus", b"not in the range")),
        (("--cgroup", "/"), (b"no cgroup", b"cgroup.procs")),
        (("--cgroup", "/does/not/exist"), (b"no cgroup",)),
        (("--open-files", "3"), (b"--open-files",)),
        (("--pids", "0"), (b"--pids",)),
        (("--cpu-time", "0.5"), (b"--cpu-time",)),
    ],
)
def test_what_cannot_be_had(
    pipe_init: PipeInit, function: Path, arguments: tuple[str, ...], words: tuple[bytes, ...]
) -> None:
    finished = pipe_init("run", "breaks.handler", "-e", '{"do": "fine"}', *arguments, cwd=function)
    assert finished.returncode == 2
    assert all(word in finished.stderr for word in words), finished.stderr


@pytest.mark.unmeasured
class TestProcesses:
    """Check the limit of processes. RLIMIT_NPROC counts all processes of the user and does not bind root."""

    def as_another_user(
        self, pipe_init: PipeInit, function: Path, require_tool: Callable[[str], str], *given: str
    ) -> subprocess.CompletedProcess[bytes]:
        require(os.getuid() == 0, "needs to be root, to become another user")
        # The user may read wherever this Python is installed, and nothing else.
        caps = "-all,+dac_read_search"
        sets = ("--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps)
        user = [require_tool("setpriv"), "--reuid", "64000", "--regid", "64000", "--clear-groups", *sets]
        function.chmod(function.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)
        return subprocess.run(
            [*user, *pipe_init.command, *given], cwd=function, env=pipe_init.environment(), capture_output=True
        )

    def test_root_has_no_such_limit(self, pipe_init: PipeInit, function: Path) -> None:
        require(os.getuid() == 0, "needs to be root")
        finished = pipe_init("run", "breaks.handler", "-e", '{"do": "fine"}', "--pids", "10", cwd=function)
        assert finished.returncode == 2
        assert b"--cgroup" in finished.stderr

    @pytest.mark.parametrize(("name", "kind"), [("processes", "BlockingIOError"), ("threads", "RuntimeError")])
    def test_of_another_user(
        self, pipe_init: PipeInit, function: Path, require_tool: Callable[[str], str], name: str, kind: str
    ) -> None:
        given = ("run", "breaks.handler", "-e", json.dumps({"do": name}), "--pids", "10", "-m", "1000", "-q")
        finished = self.as_another_user(pipe_init, function, require_tool, *given)
        error = json.loads(finished.stderr.splitlines()[-1])
        assert (finished.returncode, error["errorType"]) == (1, kind)
        assert error["limit"] == {"name": "pids", "value": 10}

    @pytest.mark.parametrize(
        "several",
        [("-w", "2"), ("-w", "2", "--start-method", "exec"), ("--isolation", "request")],
        ids=["workers", "workers by exec", "request"],
    )
    def test_several_workers_of_another_user_cannot_be_told_apart(
        self, pipe_init: PipeInit, function: Path, require_tool: Callable[[str], str], several: tuple[str, ...]
    ) -> None:
        given = ("run", "breaks.handler", "--events", "-", *several, "--pids", "10")
        finished = self.as_another_user(pipe_init, function, require_tool, *given)
        assert (finished.returncode, finished.stdout) == (2, b"")
        assert b"several processes that serve only in a cgroup" in b" ".join(finished.stderr.split())


SEVERAL = (
    ("-w", "2", "--start-method", "exec"),
    ("-w", "2", "--start-method", "template"),
    ("--isolation", "request"),
    ("--isolation", "request", "--start-method", "exec"),
)

in_several = pytest.mark.parametrize("mode", SEVERAL, ids=["exec", "template", "request", "request by exec"])


@in_several
def test_cpu_time_of_each_process(pipe_init: PipeInit, function: Path, mode: tuple[str, ...]) -> None:
    arguments = ("run", "breaks.handler", "--events", "-", *mode, "--cpu-time", "1", "-q")
    finished = pipe_init(*arguments, stdin=b'{"do": "cpu"}\n' * 2, cwd=function)
    for line in finished.stdout.splitlines():
        error = json.loads(line)
        check("cpu", error)
        assert "in cpu" in error["stackTrace"][-1]
    assert finished.stdout.count(b"\n") == 2 and finished.returncode == 152


@in_several
@pytest.mark.unmeasured
def test_limits_hold_from_the_functions_first_line_on(
    pipe_init: PipeInit, function: Path, mode: tuple[str, ...]
) -> None:
    """Check that the limits hold in each process, and that the smallest number of files is enough for each."""
    (function / "own.py").write_text(
        "import resource\n"
        "def first(context):\n    global seen\n    seen = look()\n"
        "def look():\n    return [resource.getrlimit(w) for w in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)]\n"
        "def handler(event):\n    return [*seen, *look()]\n"
    )
    limits = ("--cpu-time", "5", "--open-files", "16", "--initializer", "own.first")
    arguments = ("run", "own.handler", "--events", "-", *mode, *limits, "-q")
    finished = pipe_init(*arguments, stdin=b"1\n" * 20, cwd=function)
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    assert found == [[[5, 6], [16, 16]] * 2] * 20, finished.stderr


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "harm",
    ["os.register_at_fork(after_in_child=lambda: time.sleep(0.03))", "kept = [open('/dev/null') for _ in range(20)]"],
    ids=["slow to become a worker", "with many files of its module's"],
)
def test_few_open_files_are_no_reason_not_to_become_a_worker(pipe_init: PipeInit, function: Path, harm: str) -> None:
    (function / "own.py").write_text(f"import os, time\n{harm}\ndef handler(event):\n    return event\n")
    arguments = ("run", "own.handler", "--events", "-", "--isolation", "request", "--open-files", "16", "-q")
    finished = pipe_init(*arguments, stdin=b"".join(b"%d\n" % number for number in range(20)), cwd=function)
    assert finished.stderr == b""
    assert (list(map(int, finished.stdout.split())), finished.returncode) == (list(range(20)), 0)
