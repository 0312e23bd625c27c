"""Tests of several workers, of the template that forks them, and of their replacement, on the command line.

Events that wait for each other show which requests run at the same time. Nothing here measures time.
"""

from __future__ import annotations

import collections
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import processes, tools
from pipe_testing.command import Finished, PipeInit, popen
from pipe_testing.fifo import Fifo
from pipe_testing.patience import HANGS

FUNCTION = Path(__file__).parents[1] / "functions" / "workers"

EXEC, TEMPLATE, REQUEST = ("--start-method", "exec"), ("--start-method", "template"), ("--isolation", "request")

in_each_mode = pytest.mark.parametrize("mode", [EXEC, TEMPLATE, REQUEST], ids=["exec", "template", "request"])


def event(do: str, **more: object) -> str:
    return json.dumps({"do": do, **more}) + "\n"


def run(pipe_init: PipeInit, *arguments: str, events: str = "", env: dict[str, str] | None = None) -> Finished:
    """Run `pipe-init run` with these events and without its own log lines."""
    command = ("run", "index.handler", "-q", "--events", "-", *arguments)
    return pipe_init(*command, cwd=FUNCTION, stdin=events.encode(), env=env)


def results(done: Finished) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def loaded_in(stderr: bytes) -> list[int]:
    """Return the processes that have loaded the function."""
    return [int(pid) for pid in re.findall(rb"^loaded in (\d+)$", stderr, re.MULTILINE)]


class Talk:
    """A run whose events the test sends one by one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.stderr = b""

    def send(self, *events: str) -> None:
        """Write events."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(events).encode())

    def read(self, count: int = 1) -> list[Any]:
        """Read this many results."""
        found = []
        for _ in range(count):
            line = b""
            while not line.endswith(b"\n"):  # the pipe has no buffer here, so read no byte after the line
                line += self._byte()
            found.append(json.loads(line))
        return found

    def _byte(self) -> bytes:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], HANGS)[0]:
            raise TimeoutError(f"no result; stderr so far: {self.stderr!r}")
        byte = self.process.stdout.read(1)
        assert byte, "pipe-init has closed its output"
        return byte

    def ask(self, *events: str) -> list[Any]:
        """Write events and read their results."""
        self.send(*events)
        return self.read(len(events))

    def wait_for(self, pattern: bytes) -> re.Match[bytes]:
        """Read stderr until it matches this pattern."""
        assert self.process.stderr is not None
        while (found := re.search(pattern, self.stderr)) is None:
            assert select.select([self.process.stderr], [], [], HANGS)[0], self.stderr
            data = self.process.stderr.read(65536)
            assert data, self.stderr
            self.stderr += data
        return found

    def end(self) -> int:
        """End the input and return the exit code. `stderr` has all of stderr then."""
        stdout, stderr = self.process.communicate(timeout=HANGS)
        assert stdout == b""
        self.stderr += stderr
        return self.process.returncode


@pytest.fixture
def talk(pipe_init: PipeInit) -> Iterator[Callable[..., Talk]]:
    """Return a function that starts a run for events from the test: `talk("-w", "2", HOLD="…")`."""
    contexts = []

    def start(*arguments: str, **env: str) -> Talk:
        command = ("run", "index.handler", "--events", "-", "-q", "--grace", "0.2", "-t", "60", *arguments)
        context = popen(pipe_init, *command, cwd=FUNCTION, stdin=subprocess.PIPE, env=env)
        contexts.append(context)
        return Talk(context.__enter__())

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


class Gate:
    """A FIFO at which events wait while it is closed. It holds the other FIFO open, which would end otherwise."""

    def __init__(self, path: Path, fifo: Fifo) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._descriptors = [os.open(fifo.path, os.O_WRONLY)]

    def open(self) -> None:
        """Let all events pass."""
        self._descriptors.append(os.open(self.path, os.O_WRONLY))

    def close(self) -> None:
        """Let events wait that come from now on."""
        os.close(self._descriptors.pop())


@pytest.fixture
def gate(tmp_path: Path, fifo: Fifo) -> Iterator[Gate]:
    gate = Gate(tmp_path / "go", fifo)
    yield gate
    while gate._descriptors:
        gate.close()


def meet(fifo: Fifo, gate: Gate, **more: object) -> str:
    """Return an event that writes `here` and waits for the gate."""
    return event("meet", fifo=fifo.path, go=gate.path, **more)


# Which result comes when


@in_each_mode
def test_results_are_in_order(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    events = [event("fail" if number % 7 == 3 else "number", number=number) for number in range(60)]
    done = run(pipe_init, "-w", "4", *mode, events="".join(events))
    seen = [int(each["errorMessage"]) if isinstance(each, dict) else each for each in results(done)]
    assert seen == list(range(60))
    assert done.returncode == 1


@in_each_mode
def test_unordered_each_result_says_which_it_is_and_comes_once(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    events = [event("fail" if number % 7 == 3 else "number", number=number) for number in range(60)]
    done = run(pipe_init, "-w", "4", "--unordered", *mode, events="".join(events))
    seen = {}
    for each in results(done):
        assert each["index"] not in seen
        seen[each["index"]] = int(each["error"]["errorMessage"]) if "error" in each else each["result"]
    assert seen == {number: number for number in range(60)}
    assert sum("error" in each for each in results(done)) == sum(number % 7 == 3 for number in range(60))


@in_each_mode
def test_a_slow_event_holds_up_no_other(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, mode: tuple[str, ...]
) -> None:
    conversation = talk("-w", "2", "--unordered", *mode)
    conversation.send(meet(fifo, gate, number=0), *(event("number", number=number) for number in range(1, 30)))
    assert {each["index"] for each in conversation.read(29)} == set(range(1, 30))
    gate.open()
    assert conversation.read() == [{"index": 0, "result": 0}]
    assert conversation.end() == 0


@in_each_mode
def test_as_many_events_at_once_as_there_are_workers(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, mode: tuple[str, ...]
) -> None:
    conversation = talk("-w", "4", *mode)
    conversation.send(*(meet(fifo, gate) for _ in range(5)))
    fifo.wait_for(b"here\n" * 4)
    gate.open()
    pids = conversation.read(5)
    assert len(set(pids)) == (5 if mode is REQUEST else 4)
    assert conversation.end() == 0


def test_workers_that_serve_several_at_once(talk: Callable[..., Talk], fifo: Fifo, gate: Gate) -> None:
    conversation = talk("-w", "2", "--concurrency", "3")
    conversation.send(*(meet(fifo, gate) for _ in range(6)))
    fifo.wait_for(b"here\n" * 6)
    gate.open()
    assert sorted(collections.Counter(conversation.read(6)).values()) == [3, 3]
    assert conversation.end() == 0


# The end of a worker


@pytest.mark.parametrize("mode", [EXEC, TEMPLATE], ids=["exec", "template"])
def test_what_a_dead_worker_had_not_begun_moves_on_and_each_is_begun_once(
    pipe_init: PipeInit, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    file, fatal = tmp_path / "begun", {100, 101, 150, 220}
    file.touch()
    events = [event("count", number=number, file=str(file), die=number in fatal) for number in range(300)]
    done = run(pipe_init, "-w", "2", *mode, events="".join(events))
    seen = results(done)
    assert [number for number, each in enumerate(seen) if isinstance(each, dict)] == sorted(fatal)
    assert {each["errorType"] for each in seen if isinstance(each, dict)} == {"Runtime.ExitError"}
    assert [each for each in seen if not isinstance(each, dict)] == [n for n in range(300) if n not in fatal]
    assert sorted(map(int, file.read_text().split())) == list(range(300))


@pytest.mark.parametrize("mode", [EXEC, TEMPLATE], ids=["exec", "template"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_is_replaced_after_so_many_events(pipe_init: PipeInit, mode: tuple[str, ...], workers: int) -> None:
    done = run(pipe_init, "-w", str(workers), "--max-requests", "3", *mode, events=event("pid") * 15)
    served = collections.Counter(results(done))
    assert done.returncode == 0
    assert sum(served.values()) == 15
    assert set(served.values()) == {3} if workers == 1 else max(served.values()) <= 3


@pytest.mark.parametrize("mode", [EXEC, TEMPLATE], ids=["exec", "template"])
def test_a_worker_that_has_grown_is_replaced(talk: Callable[..., Talk], mode: tuple[str, ...]) -> None:
    conversation = talk("--max-growth", "32", *mode)
    pids = [conversation.ask(event("grow", mb=mb))[0] for mb in (1, 1, 40, 1, 1)]
    assert len(set(pids[:3])) == 1 and len(set(pids[3:])) == 1 and pids[0] != pids[3]
    assert conversation.end() == 0


@in_each_mode
def test_a_neighbour_that_breaks_the_protocol_ends_the_run_and_no_request(
    pipe_init: PipeInit, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """Check that the other worker, which is handling a request at that moment, may finish it."""
    (tmp_path / "index.py").write_text(
        "import os\n"
        "def handler(event):\n"
        "    if event == 'bad':\n"
        "        open('there').read()\n"
        "        os.write(6, b'\\xff' * 64)\n"
        "        open('never').read()\n"
        "    open('there', 'w').close()\n"
        "    open('goes', 'w').close()\n"
        "    return event\n"
    )
    for name in ("there", "never", "goes"):
        os.mkfifo(tmp_path / name)
    command = ("run", "index.handler", "-q", "-w", "2", "--events", "-", *mode)
    with popen(pipe_init, *command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b'"bad"\n"good"\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["errorType"] == "Runtime.ProtocolError"
        with open(tmp_path / "goes", "rb"):
            assert process.stdout.readline() == b'"good"\n'
        assert process.wait() == 4


def test_what_a_worker_has_left_lives_until_it_is_dead_and_no_neighbour(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, tmp_path: Path
) -> None:
    left = Fifo(tmp_path / "left")
    conversation = talk("-w", "2", "--unordered")
    first = conversation.ask(event("daemon", fifo=left.path))[0]["result"]
    left.wait_for(b"here\n")
    conversation.send(meet(fifo, gate))
    fifo.wait_for(b"here\n")
    (died,) = conversation.ask(event("die"))
    assert died["error"]["errorType"] == "Runtime.ExitError"
    (other,) = conversation.ask(event("pid"))  # the neighbour was reaped, and another worker started
    assert other["result"] != first
    with pytest.raises(BlockingIOError):
        os.read(left._reader, 1)
    gate.open()
    assert conversation.read()[0]["result"] == first
    died, pid = conversation.ask(event("die"), event("pid"))
    assert {"error", "result"} == {*died, *pid} - {"index"}
    left.wait_until_closed()
    left.close()
    assert conversation.end() == 137


# The template


def test_the_function_is_loaded_once(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "-w", "4", events=event("pid") * 20)
    (template,) = loaded_in(done.stderr)
    assert template not in results(done)
    assert done.stderr.count(b"\n") == 1


def test_without_a_template_each_worker_loads_it(talk: Callable[..., Talk], fifo: Fifo, gate: Gate) -> None:
    conversation = talk("-w", "2", *EXEC)
    conversation.send(meet(fifo, gate), meet(fifo, gate))
    fifo.wait_for(b"here\n" * 2)
    gate.open()
    pids = conversation.read(2)
    assert conversation.end() == 0
    assert sorted(loaded_in(conversation.stderr)) == sorted(pids)


@pytest.mark.parametrize("mode", [TEMPLATE, REQUEST], ids=["template", "request"])
def test_the_death_of_the_template_costs_no_event(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, mode: tuple[str, ...]
) -> None:
    conversation = talk("-w", "2", *mode)
    conversation.send(meet(fifo, gate), meet(fifo, gate))
    fifo.wait_for(b"here\n" * 2)
    template = int(conversation.wait_for(rb"loaded in (\d+)\n")[1])
    os.kill(template, signal.SIGKILL)
    gate.open()
    before = conversation.read(2)
    gate.close()
    served = set(conversation.ask(*[event("pid")] * 20))
    if mode is TEMPLATE:
        assert served <= set(before)
        assert conversation.ask(event("die"))[0]["errorType"] == "Runtime.ExitError"
    conversation.send(meet(fifo, gate), meet(fifo, gate))
    gate.open()
    after = conversation.read(2)
    assert len({*before, *after}) == (3 if mode is TEMPLATE else 4)
    assert conversation.end() == (137 if mode is TEMPLATE else 0)
    first, second = loaded_in(conversation.stderr)
    assert first == template and second not in {*before, *after}


@pytest.mark.parametrize("mode", [TEMPLATE, (*TEMPLATE, *REQUEST)], ids=["template", "request"])
def test_a_template_that_hangs_while_it_loads(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    arguments = ("run", "index.handler", "-q", "-e", "{}", "--start-timeout", "1", "--grace", "0.1", *mode)
    done = pipe_init(*arguments, cwd=FUNCTION, env={"HANG": "1"})
    error = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, error["errorType"]) == (124, "Sandbox.Timedout")
    lines = (FUNCTION / "index.py").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.endswith("# the import hangs here"))
    assert f"line {number}, in hang_at_import" in "".join(error["stackTrace"])


@pytest.mark.parametrize(("number", "how"), [(7, "exit status 7"), (-9, "signal: killed")])
def test_a_template_that_dies_while_it_loads(pipe_init: PipeInit, number: int, how: str) -> None:
    code = f"os._exit({number})" if number > 0 else f"os.kill(os.getpid(), {-number})"
    done = run(pipe_init, "-w", "2", events=event("pid") * 3, env={"AT_IMPORT": code})
    assert done.returncode == 3
    assert {each["errorType"] for each in results(done)} == {"Runtime.ExitError"}
    assert all(how in each["errorMessage"] for each in results(done))
    assert 2 <= len(results(done)) <= 3  # the run may have ended before it read the third
    assert 5 <= len(loaded_in(done.stderr)) <= 10


def test_a_template_that_cannot_load_the_function(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "-w", "2", events=event("pid") * 3, env={"AT_IMPORT": "raise ImportError('no')"})
    assert done.returncode == 3
    assert {each["errorType"] for each in results(done)} == {"Runtime.ImportModuleError"}
    assert len(loaded_in(done.stderr)) == 1


def forbidding(call: str) -> list[str]:
    """Return a command prefix under which a system call fails with EPERM, by a seccomp filter."""
    numbers = {("socketpair", "x86_64"): (0xC000003E, 53), ("socketpair", "aarch64"): (0xC00000B7, 199)}
    tools.require((call, platform.machine()) in numbers, f"needs {call}'s number on {platform.machine()}")
    machine, number = numbers[call, platform.machine()]
    program = f"""
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 4), (0x15, 0, 3, {machine}), (0x20, 0, 0, 0), (0x15, 0, 1, {number})]
code += [(0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]  # EPERM, or allowed
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 6, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(head), 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
os.execv(sys.argv[1], sys.argv[1:])
"""
    prefix = [sys.executable, "-I", "-S", "-c", program]
    tried = subprocess.run([*prefix, sys.executable, "-c", "pass"], stderr=subprocess.PIPE, text=True)
    tools.require(tried.returncode == 0, f"needs seccomp filters: {tried.stderr.strip()}")
    return prefix


@pytest.mark.parametrize("mode", [TEMPLATE, REQUEST], ids=["template", "request"])
def test_where_there_are_no_sockets_workers_start_by_exec(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    pipe_init.command = [*forbidding("socketpair"), *pipe_init.command]
    done = run(pipe_init, "-w", "2", *mode, events=event("pid") * 6)
    lines = done.stderr.splitlines()
    said = [line for line in lines if not line.startswith(b"loaded in ")]
    assert said == [b"pipe-init: no template can be started here (Operation not permitted); workers start by exec"]
    assert done.returncode == 0
    assert set(results(done)) <= set(loaded_in(done.stderr))
    if mode is REQUEST:
        assert len(set(results(done))) == 6


# Its own end


@in_each_mode
def test_kill_of_pipe_init_takes_all_along(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    hold, keep = Fifo(tmp_path / "hold"), processes.children()
    conversation = talk("-w", "3", *mode, HOLD=hold.path)
    conversation.send(*(meet(fifo, gate) for _ in range(3)))
    fifo.wait_for(b"here\n" * 3)
    conversation.process.kill()
    assert conversation.process.wait(HANGS) == -signal.SIGKILL
    hold.wait_until_closed()
    hold.close()
    processes.wait_for_children(keep=keep)


@in_each_mode
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_end_of_events_is_the_end(pipe_init: PipeInit, mode: tuple[str, ...], count: int) -> None:
    done = run(pipe_init, "-w", "3", *mode, events=event("number", number=1) * count)
    assert (done.returncode, results(done)) == (0, [1] * count)


@in_each_mode
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_all_are_busy(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, mode: tuple[str, ...], number: signal.Signals
) -> None:
    conversation = talk("-w", "4", "--grace", "60", "--unordered", *mode)
    conversation.send(*(meet(fifo, gate, number=index) for index in range(6)))
    fifo.wait_for(b"here\n" * 4)
    conversation.process.send_signal(number)
    gate.open()
    stdout, _ = conversation.process.communicate(timeout=HANGS)
    seen = [json.loads(line) for line in stdout.splitlines()]
    assert conversation.process.returncode == 128 + number
    assert len(seen) == len({each["index"] for each in seen})
    assert {each["result"] for each in seen if "result" in each} >= {0, 1, 2, 3}
    assert {each["error"]["errorType"] for each in seen if "error" in each} <= {"Runtime.Stopped"}


@in_each_mode
def test_after_the_grace_time_those_that_are_busy_are_stopped(
    talk: Callable[..., Talk], fifo: Fifo, gate: Gate, mode: tuple[str, ...]
) -> None:
    conversation = talk("-w", "4", "--grace", "0.1", *mode)
    conversation.send(*(meet(fifo, gate) for _ in range(4)))
    fifo.wait_for(b"here\n" * 4)
    conversation.process.send_signal(signal.SIGTERM)
    assert [each["errorType"] for each in conversation.read(4)] == ["Runtime.Stopped"] * 4
    assert conversation.end() == 143


# Log lines and messages


@in_each_mode
def test_each_event_has_its_lines_once(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    command = ("run", "index.handler", "--log-style", "fc", "--events", "-", "-w", "3", *mode)
    done = pipe_init(*command, cwd=FUNCTION, stdin="".join(event("talk", number=n) for n in range(12)).encode())
    lines = done.stderr.decode().splitlines()
    by_id: dict[str, list[str]] = {}
    for line in lines:
        if found := re.match(r"(FC Invoke Start|FC Invoke End|REPORT) RequestId: ([-0-9a-f]{36})", line):
            by_id.setdefault(found[2], []).append(found[1])
    assert list(by_id.values()) == [["FC Invoke Start", "FC Invoke End", "REPORT"]] * 12
    assert sorted(line for line in lines if line.startswith("event ")) == sorted(f"event {n}" for n in range(12))
    loaded = len([line for line in lines if line.startswith("loaded in ")])
    assert len(lines) == 12 * 4 + loaded
    assert loaded == 1 or mode is EXEC


@in_each_mode
def test_hooks_run_in_each_process_that_serves(pipe_init: PipeInit, mode: tuple[str, ...]) -> None:
    hooks = ("--initializer", "index.initialize", "--pre-stop", "index.before_the_end")
    done = run(pipe_init, "-w", "2", *mode, *hooks, events=event("pid") * 8)
    assert done.returncode == 0, done
    said = {
        word: set(map(int, re.findall(rb"^%s (\d+)$" % word, done.stderr, re.M)))
        for word in (b"initialized", b"stopped")
    }
    assert said[b"stopped"] == said[b"initialized"] >= set(results(done))
