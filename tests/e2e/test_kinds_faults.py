"""Tests of every fault and every death for every kind of function: the error, the exit code and the stack.

The next event must succeed each time. test_run_faults.py is the same for plain functions with one event at a time. The
functions are in functions/kinds. A comment `# <- name` in them marks the line that a stack must show. Most tests read
one run of `--events` with many faults. The runs of a group start at once, because hanging takes time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import modes
from pipe_testing.command import Finished, PipeInit, popen

MODES = modes.ON_REQUEST

pytestmark = [pytest.mark.heavy, pytest.mark.unmeasured]

FUNCTIONS = Path(__file__).parents[1] / "functions" / "kinds"
FILE = FUNCTIONS / "kinds.py"
SIDE_BY_SIDE = 4
AT_ONCE = 10
TOGETHER = ("--concurrency", str(AT_ONCE))
EXIT = "RequestId: {id} Error: Runtime exited with error: "
SHORT = ("-t", "0.5", "--grace", "0.1")
TIMED_OUT = "RequestId: {id} Error: Task timed out after 0.50 seconds"
GOOD = {"n": 1}

Error = tuple[str, str, str, str]
"""A function in functions/kinds, the error's type and message, and the marker of the most recent line of ours in the
stack. In the message `…` stands for any text. An empty marker means that there is no stack.
"""


@dataclass(frozen=True)
class Kind:
    """A kind of function.

    Attributes:
        asynchronous: Whether it runs on an event loop.
        streams: Whether it can begin its answer and fail afterwards.
    """

    name: str
    options: tuple[str, ...] = ()
    asynchronous: bool = False
    streams: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def is_http(self) -> bool:
        """Tell whether its answers are HTTP responses."""
        return "--type" in self.options

    def answer(self, line: Any) -> Any:
        """Return the value in a result line."""
        if self.is_http:
            assert line["statusCode"] == 200
            return json.loads(line["body"])
        if self.name in ("generator", "async_generator"):
            (line,) = line
        return line


PLAIN = Kind("handler", streams=False)
KINDS = [
    PLAIN,
    Kind("coroutine", asynchronous=True, streams=False),
    Kind("generator"),
    Kind("async_generator", asynchronous=True),
    Kind("wsgi", ("--type", "wsgi")),
    Kind("asgi", ("--type", "asgi"), asynchronous=True),
]

RAISED: list[Error] = [
    ("plain", "LookupError", "not there", "plain"),
    ("chain", "RuntimeError", "outer", "chain"),
    ("exits", "SystemExit", "3", "exits"),
    ("interrupts", "KeyboardInterrupt", "", "interrupts"),
    ("generator_exit", "GeneratorExit", "", "generator_exit"),
    ("cancelled", "CancelledError", "of its own", "cancelled"),
    ("broken_pipe", "BrokenPipeError", "[Errno 32] of its own", "broken_pipe"),
    ("memory", "MemoryError", "too much", "memory"),
    ("allocates", "MemoryError", "", "allocates"),
    ("recurses", "RecursionError", "maximum recursion depth exceeded…", "recurses"),
    ("unprintable", "Unprintable", "its text could not be read: __str__ raised ValueError", "unprintable"),
]
if sys.version_info >= (3, 11):
    RAISED.append(("group", "ExceptionGroup", "several (2 sub-exceptions)", "group"))
UNSERIALISABLE: Error = ("unserialisable", "Runtime.MarshalError", "Unable to marshal response: …", "")
DEATHS: list[Error] = [
    ("leaves", "Runtime.ExitError", EXIT + "exit status 7", ""),
    ("segfault", "Runtime.ExitError", EXIT + "signal: segmentation fault", "segfault"),
    ("kills", "Runtime.ExitError", EXIT + "signal: killed", ""),
]
HANGS: list[Error] = [
    (name, "Sandbox.Timedout", TIMED_OUT, name) for name in ("loop", "loop_in_c", "sleep", "stops", "waits", "stubborn")
]
AWAITING = ("waits", "stubborn")


@dataclass(frozen=True)
class Run:
    """One run of many events for a function of one kind."""

    kind: Kind
    events: tuple[str, ...]
    options: tuple[str, ...] = ()

    def __call__(self) -> Finished:
        stdin = "".join(event + "\n" for event in self.events).encode()
        return pipe_init(self.kind, *self.options, "--events", "-", stdin=stdin)


def pipe_init(kind: Kind, *options: str, stdin: bytes = b"") -> Finished:
    return PipeInit()("run", f"kinds.{kind.name}", "-q", *kind.options, *options, cwd=FUNCTIONS, stdin=stdin)


class Groups:
    """The runs of a group. They are started at once, and each is made only once."""

    def __init__(self) -> None:
        self._done: dict[tuple[str, Run], Finished] = {}

    def result(self, run: Run, group: Sequence[Run]) -> tuple[int, list[Any]]:
        """Return the exit code and the result lines of one run of a group."""
        if (modes.chosen, run) not in self._done:
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                done_by_now = pool.map(lambda each: each(), group)
                self._done.update({(modes.chosen, each): ended for each, ended in zip(group, done_by_now, strict=True)})
        done = self._done[modes.chosen, run]
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == len(run.events), done
        return done.returncode, lines


@pytest.fixture(scope="module")
def groups() -> Groups:
    return Groups()


def event(fault: str, started: bool = False) -> str:
    return json.dumps({"fault": fault, "started": True} if started else {"fault": fault})


def faults_of(kind: Kind, errors: Sequence[Error]) -> list[tuple[Error, bool]]:
    """Return each fault that this kind can have, and whether the answer has begun by then."""
    found = []
    for error in errors:
        if (error[0] not in AWAITING or kind.asynchronous) and not (error is UNSERIALISABLE and kind.is_http):
            before_and_behind = (False, True) if kind.streams else (False,)
            if error in HANGS and kind.streams:  # only one of both, because each takes time
                before_and_behind = (HANGS.index(error) % 2 == 0,)
            found += [(error, started) for started in before_and_behind]
    return found


def one_by_one(kind: Kind, errors: Sequence[Error], *options: str) -> Run:
    """Return a run with each fault, and after each an event that must succeed."""
    faults = faults_of(kind, errors)
    lines = [line for error, started in faults for line in (event(error[0], started), json.dumps(GOOD))]
    return Run(kind, tuple(lines), options)


def check_one_by_one(kind: Kind, errors: Sequence[Error], lines: list[Any]) -> None:
    for (error, _), line, after in zip(faults_of(kind, errors), lines[::2], lines[1::2], strict=True):
        check(line, error)
        assert kind.answer(after) == GOOD, error


ANSWERED = [
    one_by_one(kind, [*RAISED, UNSERIALISABLE], *options)
    for kind in KINDS
    for options in ((), TOGETHER)
    if kind is not PLAIN or options
]
DEAD = [one_by_one(kind, DEATHS) for kind in KINDS if kind is not PLAIN]
HUNG = [one_by_one(kind, HANGS, *SHORT) for kind in KINDS if kind is not PLAIN]


SHARING = pytest.mark.modes(modes.EXEC, modes.TEMPLATE, modes.WORKERS)
"""For tests of requests that share a worker, which never happens with a process for each request."""

ONE_WORKER = pytest.mark.modes(modes.EXEC, modes.TEMPLATE)
"""For tests of requests that one worker handles at the same time."""


def name_of(run: Run) -> str:
    return f"{run.kind}-{'together' if TOGETHER[0] in run.options else 'alone'}"


@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=SHARING if TOGETHER[0] in run.options else (), id=name_of(run)) for run in ANSWERED],
)
def test_what_is_raised_is_an_answer(groups: Groups, run: Run) -> None:
    code, lines = groups.result(run, ANSWERED)
    assert code == 1
    check_one_by_one(run.kind, [*RAISED, UNSERIALISABLE], lines)
    (chain,) = {line["cause"]["stackTrace"][-1] for line in lines[::2] if line.get("errorMessage") == "outer"}
    assert f"line {marked_line('chain.cause')}, in chain" in chain


@pytest.mark.parametrize("run", DEAD, ids=name_of)
def test_a_death_is_an_error_and_the_next_request_succeeds(groups: Groups, run: Run) -> None:
    code, lines = groups.result(run, DEAD)
    assert code == 137
    check_one_by_one(run.kind, DEATHS, lines)


@pytest.mark.parametrize("run", HUNG, ids=name_of)
def test_a_timeout_shows_the_line_and_the_next_request_succeeds(groups: Groups, run: Run) -> None:
    code, lines = groups.result(run, HUNG)
    assert code == 124
    check_one_by_one(run.kind, HANGS, lines)


def batch(kind: Kind, error: Error) -> list[str]:
    """Return as many events as a worker serves at once. The last one dies while all are in progress."""
    return [event("waits" if kind.asynchronous else "sleep")] * (AT_ONCE - 1) + [event(error[0])]


DEAD_TOGETHER = [
    Run(kind, tuple(line for error in DEATHS for line in batch(kind, error)) + (json.dumps(GOOD),), TOGETHER)
    for kind in KINDS
]


@ONE_WORKER
@pytest.mark.parametrize("run", DEAD_TOGETHER, ids=name_of)
def test_a_death_answers_all_in_flight_and_none_after_them(groups: Groups, run: Run) -> None:
    code, lines = groups.result(run, DEAD_TOGETHER)
    assert code == 137
    assert run.kind.answer(lines.pop()) == GOOD
    for number, line in enumerate(lines):
        check(line, DEATHS[number // AT_ONCE])


def neighbours(kind: Kind, hang: str) -> Run:
    """Return a run with a hang, naps that overlap it, and events afterwards."""
    naps = event("async_naps" if kind.asynchronous else "naps")
    return Run(kind, (event(hang), *[naps] * 2 * (AT_ONCE - 1), *[event("pid")] * 2), (*TOGETHER, "-t", "2"))


NEIGHBOURS = [
    neighbours(kind, hang)
    for kind in KINDS
    for hang in (("waits", "stubborn") if kind.asynchronous else ("sleep", "oversleeps"))
    if kind is PLAIN or kind.name == "asgi" or hang in ("waits", "sleep")
]


@ONE_WORKER
@pytest.mark.parametrize("run", NEIGHBOURS, ids=lambda run: f"{run.kind}-{json.loads(run.events[0])['fault']}")
def test_a_timeout_leaves_its_neighbours_alone_and_a_worker_that_it_can(groups: Groups, run: Run) -> None:
    code, (hung, *rest) = groups.result(run, NEIGHBOURS)
    fault = json.loads(run.events[0])["fault"]
    assert code == 124
    check(hung, (fault, "Sandbox.Timedout", TIMED_OUT.replace("0.50", "2.00"), fault))
    pids = [run.kind.answer(line) for line in rest]
    assert len(set(pids[:-2])) == 1
    # A cancelled task and a late thread come to an end. Other hangs end only when the worker is killed. An ASGI
    # application is not cancelled: it receives a disconnect, and this one does not listen for it.
    stays = fault == "oversleeps" or (fault == "waits" and not run.kind.is_http)
    assert (set(pids[-2:]) == set(pids[:-2])) == stays


@ONE_WORKER
def test_the_line_is_shown_though_a_loop_in_c_lets_no_other_thread_run() -> None:
    done = Run(PLAIN, (event("loop_in_c"), event("sleep")), (*TOGETHER, *SHORT))()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["errorType"] for line in lines] == ["Sandbox.Timedout"] * 2
    for line in lines:  # no part of pipe-init can tell which thread serves which request
        assert f"line {marked_line('loop_in_c')}, in loop_in_c" in "".join(line["stackTrace"])
    assert done.returncode == 124


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.streams], ids=str)
@pytest.mark.parametrize(
    ("error", "code"),
    [(RAISED[0], 1), (DEATHS[2], 137), (("sleep", "Sandbox.Timedout", TIMED_OUT, "sleep"), 124)],
    ids=["raises", "dies", "hangs"],
)
def test_what_was_printed_before_a_fault_in_mid_stream_stays(kind: Kind, error: Error, code: int) -> None:
    done = pipe_init(kind, *SHORT, "-e", event(error[0], started=True))
    assert (done.returncode, done.stdout) == (code, b"started " if kind.is_http else b'"started"\n')
    check(json.loads(done.stderr), error)


def test_an_asynchronous_iterator_of_a_plain_function_fails_without_the_event_loops_calls() -> None:
    done = pipe_init(Kind("plainly_asynchronous"))
    assert (done.returncode, done.stdout) == (1, b'"started"\n')
    check(json.loads(done.stderr), ("", "LookupError", "not there", "items_of_its_own"))


@SHARING
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[3], KINDS[4]], ids=str)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--initializer", "kinds.starts_badly"), ("", "LookupError", "no configuration", "starts_badly")),
        (("--initializer", "kinds.starts_badly_later"), ("", "LookupError", "no configuration", "starts_badly_later")),
        (
            ("--initializer", "kinds.nothing"),
            ("", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'kinds'", ""),
        ),
    ],
    ids=["raises", "raises-later", "missing"],
)
def test_an_initializer_that_fails_answers_every_event_so(kind: Kind, options: tuple[str, ...], error: Error) -> None:
    done = pipe_init(kind, *TOGETHER, *options, "--events", "-", stdin=b"{}\n{}\n")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (3, 2)
    for line in lines:
        check(line, error)


@SHARING
@pytest.mark.parametrize(
    ("name", "type", "message"),
    [
        ("nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'kinds'"),
        ("without_lifespan", "LifespanFailed", "ASGI lifespan startup failed: no configuration"),
        ("leaves_in_lifespan", "LifespanFailed", "ASGI application raised SystemExit during lifespan startup"),
    ],
)
def test_an_application_that_does_not_start_answers_every_event_so(name: str, type: str, message: str) -> None:
    done = pipe_init(Kind(name, ("--type", "asgi")), *TOGETHER, "--events", "-", stdin=b"{}\n{}\n")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (3, 2)
    for line in lines:
        check(line, ("", type, message, ""))


@SHARING
def test_a_thread_that_waits_for_its_body_shows_the_line_of_the_application() -> None:
    # Its stdin stays open without more input, so the body never ends.
    kind = Kind("reads_for_ever", ("--type", "wsgi"))
    with popen(
        PipeInit(),
        "run",
        f"kinds.{kind.name}",
        "-q",
        *kind.options,
        *TOGETHER,
        *SHORT,
        "-f",
        "-",
        cwd=FUNCTIONS,
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        error = json.loads(process.stderr.read())
    assert process.returncode == 124
    check(error, ("", "Sandbox.Timedout", TIMED_OUT, "reads_for_ever"))


def check(error: dict[str, Any], expected: Error) -> None:
    """Check that the error is the one in the table, and that its stack begins and ends in the function's code."""
    _, type, message, line = expected
    assert error.get("errorType") == type, error
    message = message.replace("{id}", error["requestId"])
    assert re.fullmatch(".*".join(map(re.escape, message.split("…"))), error["errorMessage"], re.DOTALL), error
    stack = error["stackTrace"]
    if not line:
        assert stack == []
        return
    assert stack[0].startswith(f'  File "{FILE}", '), stack
    assert "pipe_runtime" not in "".join(stack)
    ours = [entry for entry in stack if str(FILE) in entry]
    # A process that stops itself continues on the same line or on the next one.
    lines = [marked_line(line) + more for more in ((0, 1) if line == "stops" else (0,))]
    assert any(ours[-1].startswith(f'  File "{FILE}", line {number}, in ') for number in lines), ours[-1]


def marked_line(name: str) -> int:
    (number,) = (n for n, line in enumerate(FILE.read_text().splitlines(), 1) if line.endswith(f"# <- {name}"))
    return number
