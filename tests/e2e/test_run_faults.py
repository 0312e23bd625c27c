"""Tests of every fault and every death on the command line: the error's type, its text, the exit code and the stack.

There is one table of faults. Each fault is tested twice: in a `pipe-init run` of its own, and among other events in one
run of `--events`. There the next event must succeed. The functions are in functions/faults. A comment `# <- name` in
them marks the line that a stack must show.
"""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import modes
from pipe_testing.command import Finished, PipeInit
from pipe_testing.fifo import Fifo
from pipe_testing.tools import require

MODES = modes.ALL

pytestmark = pytest.mark.unmeasured

FUNCTIONS = Path(__file__).parents[1] / "functions" / "faults"
SIDE_BY_SIDE = 3
SHORT = ("-t", "0.5", "--grace", "0.1")
LIMITED = ("-m", "150")
EXIT = "RequestId: {id} Error: Runtime exited with error: "
TIMED_OUT = "RequestId: {id} Error: Task timed out after 0.50 seconds"
BROKEN = "RequestId: {id} Error: The runtime broke the protocol: "
ENDED = "no stack: the worker ended before it wrote one"
NO_STACK = "no stack: the worker did not write one; it blocks signals, or sits in the kernel"


@dataclass(frozen=True)
class Fault:
    """The outcome of one request to functions/faults/{module}.py.

    Attributes:
        message: The error's text. {id} stands for the request's id, and `…` for any text.
        line: The marker of the most recent line of our files in the stack. "" means that there must be no stack.
            Otherwise it is the text in the stack's place.
    """

    module: str
    name: str
    type: str
    message: str
    code: int
    line: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


FAULTS = [
    Fault("raises", "plain", "LookupError", "not there", 1, "plain"),
    Fault("raises", "chain", "RuntimeError", "outer", 1, "chain"),
    Fault("raises", "context", "TypeError", "while handling", 1, "context"),
    Fault("raises", "exits", "SystemExit", "3", 1, "exits"),
    Fault("raises", "interrupts", "KeyboardInterrupt", "", 1, "interrupts"),
    Fault("raises", "memory", "MemoryError", "too much", 1, "memory"),
    Fault("raises", "allocates", "MemoryError", "", 1, "allocates"),
    Fault("raises", "recurses", "RecursionError", "maximum recursion depth exceeded…", 1, "recurses"),
    Fault(
        "raises",
        "unprintable",
        "Unprintable",
        "its text could not be read: __str__ raised ValueError",
        1,
        "unprintable",
    ),
    Fault("raises", "unserialisable", "Runtime.MarshalError", "Unable to marshal response: …", 1),
    Fault("raises", "circular", "Runtime.MarshalError", "Unable to marshal response: …", 1),
    Fault("dies", "leaves", "Runtime.ExitError", EXIT + "exit status 7", 1),
    Fault("dies", "leaves_well", "Runtime.ExitError", EXIT + "exit status 0", 1),
    Fault("dies", "leaves_with_255", "Runtime.ExitError", EXIT + "exit status 255", 1),
    Fault("dies", "segfault", "Runtime.ExitError", EXIT + "signal: segmentation fault", 139, "segfault"),
    Fault("dies", "aborts", "Runtime.ExitError", EXIT + "signal: aborted", 134, "aborts"),
    Fault("dies", "recurses_in_c", "Runtime.ExitError", EXIT + "signal: segmentation fault", 139, "recurses_in_c"),
    Fault("dies", "kills", "Runtime.ExitError", EXIT + "signal: killed", 137),
    Fault("dies", "terminates", "Runtime.ExitError", EXIT + "signal: terminated", 143),
    Fault("dies", "becomes_another", "Runtime.ExitError", EXIT + "exit status 5", 1),
    Fault("dies", "exits_in_thread", "Runtime.ExitError", EXIT + "exit status 8", 1),
    Fault(
        "dies",
        "exhausts_memory",
        "Runtime.OutOfMemory",
        EXIT + "signal: segmentation fault, out of memory: it may allocate 150 MB, and had … MB resident",
        137,
        "exhausts_memory",
        LIMITED,
    ),
    Fault("dies", "allocates", "MemoryError", "", 1, "allocates", LIMITED),
    Fault("dies", "kills", "Runtime.ExitError", EXIT + "signal: killed", 137, options=LIMITED),
    Fault("hangs", "loop", "Sandbox.Timedout", TIMED_OUT, 124, "loop", SHORT),
    Fault("hangs", "loop_in_c", "Sandbox.Timedout", TIMED_OUT, 124, "loop_in_c", SHORT),
    Fault("hangs", "sleep", "Sandbox.Timedout", TIMED_OUT, 124, "sleep", SHORT),
    Fault("hangs", "deadlock", "Sandbox.Timedout", TIMED_OUT, 124, "deadlock", SHORT),
    Fault("hangs", "stubborn", "Sandbox.Timedout", TIMED_OUT, 124, "stubborn", SHORT),
    Fault("hangs", "blocks_signals", "Sandbox.Timedout", TIMED_OUT, 124, NO_STACK, SHORT),
    Fault("hangs", "dies_of_the_dump_signal", "Sandbox.Timedout", TIMED_OUT, 124, ENDED, SHORT),
    Fault("hangs", "aborts_at_the_dump_signal", "Sandbox.Timedout", TIMED_OUT, 124, "aborts_at_the_dump_signal", SHORT),
    Fault("hangs", "stops", "Sandbox.Timedout", TIMED_OUT, 124, "stops", SHORT),
    Fault("hangs", "waits_for_a_program", "Sandbox.Timedout", TIMED_OUT, 124, "waits_for_a_program", SHORT),
    Fault("hangs", "answers_late", "Sandbox.Timedout", TIMED_OUT, 124, "answers_late", SHORT),
    Fault("descriptors", "closes_all", "Runtime.ExitError", EXIT + "exit status 1", 1),
    # How the worker died tells more than that it died inside a frame.
    Fault("descriptors", "half_a_frame", "Runtime.ExitError", EXIT + "exit status 6", 1),
    Fault("leaves", "default_alarm", "Runtime.ExitError", EXIT + "signal: alarm clock", 142),
]
FAULTS_OF_311 = [
    Fault("raises", "group", "ExceptionGroup", "several (2 sub-exceptions)", 1, "group"),
]
if sys.version_info >= (3, 11):
    FAULTS += FAULTS_OF_311

VIOLATIONS = [
    Fault("descriptors", "garbage", "Runtime.ProtocolError", BROKEN + "a frame of 1214606444 bytes; …", 4),
    Fault("descriptors", "forged_result", "Runtime.ProtocolError", BROKEN + "RESULT for id 4711, …", 4),
    Fault("descriptors", "four_gigabytes", "Runtime.ProtocolError", BROKEN + "a frame of 4294967295 bytes; …", 4),
    Fault("descriptors", "depth_bomb", "Runtime.ProtocolError", BROKEN + "a head …", 4),
    Fault("descriptors", "object_bomb", "Runtime.ProtocolError", BROKEN + "a head …", 4),
]
"""Faults that end a run of --events, because later events would fare no better."""

LOADING: list[tuple[str, str, str, str]] = [
    ("nodot", "Runtime.MalformedHandlerName", "Bad handler 'nodot': …", ""),
    ("/etc/x.y", "Runtime.MalformedHandlerName", "Bad handler '/etc/x.y': …", ""),
    ("a..b", "Runtime.MalformedHandlerName", "Bad handler 'a..b': …", ""),
    ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module", ""),
    ("json.dumps", "Runtime.BuiltInModuleConflict", "Cannot use built-in module json as a handler module", ""),
    (
        "nowhere.handler",
        "Runtime.ImportModuleError",
        "Unable to import module 'nowhere': No module named 'nowhere'…",
        "",
    ),
    (
        "needs_missing.handler",
        "Runtime.ImportModuleError",
        "Unable to import module 'needs_missing': No module named 'no_such_module_anywhere'",
        "needs_missing",
    ),
    ("raises.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'raises'", ""),
    ("raises.sys", "Runtime.HandlerNotFound", "Handler 'sys' missing on module 'raises'…", ""),
]
"""Handler, type, message and line of faults with exit code 3. Each ends a run of --events."""


class Runs:
    """The two runs of each fault. All runs of one function and the same options start at once, to save time."""

    def __init__(self) -> None:
        self._alone: dict[Fault, Finished] = {}
        self._among: dict[Fault, tuple[Any, Any]] = {}

    def alone(self, fault: Fault) -> Finished:
        """Return the run that has only this event."""
        self._run_group(fault)
        return self._alone[fault]

    def among_others(self, fault: Fault) -> tuple[Any, Any]:
        """Return the result lines of this event and of the next one."""
        self._run_group(fault)
        return self._among[fault]

    def _run_group(self, fault: Fault) -> None:
        if fault in self._alone:
            return
        group = [each for each in FAULTS if (each.module, each.options) == (fault.module, fault.options)]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            alone = pool.map(self._run_alone, group)
            among = pool.map(self._run_among, [group[start::SIDE_BY_SIDE] for start in range(SIDE_BY_SIDE)])
            self._alone.update(zip(group, alone, strict=True))
            for results in among:
                self._among.update(results)

    def _run_alone(self, fault: Fault) -> Finished:
        return run(PipeInit(), f"{fault.module}.handler", *fault.options, "-e", json.dumps({"fault": fault.name}))

    def _run_among(self, group: list[Fault]) -> dict[Fault, tuple[Any, Any]]:
        if not group:
            return {}
        events = [event for each in group for event in ({"fault": each.name}, {"after": each.name})]
        done = run_events(PipeInit(), f"{group[0].module}.handler", events, *group[0].options)
        assert done.returncode == worst({each.code for each in group})
        results = results_of(done)
        return dict(zip(group, zip(results[::2], results[1::2], strict=True), strict=True))


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_alone(runs: Runs, fault: Fault) -> None:
    done = runs.alone(fault)
    assert done.returncode == fault.code, done.stderr
    assert done.stdout == b""
    check(error_of(done), fault)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_among_other_events_the_next_one_succeeds(runs: Runs, fault: Fault) -> None:
    error, after = runs.among_others(fault)
    check(error, fault)
    assert after == {"after": fault.name}


@pytest.mark.parametrize("fault", VIOLATIONS, ids=str)
def test_a_broken_protocol_alone(pipe_init: PipeInit, fault: Fault) -> None:
    done = run(pipe_init, f"{fault.module}.handler", "-e", json.dumps({"fault": fault.name}))
    assert (done.returncode, done.stdout) == (4, b"")
    check(error_of(done), fault)


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE)  # in the other modes another worker gets the last event
@pytest.mark.parametrize("fault", VIOLATIONS, ids=str)
def test_a_broken_protocol_ends_a_run_of_events(pipe_init: PipeInit, fault: Fault) -> None:
    done = run_events(pipe_init, f"{fault.module}.handler", [{"n": 1}, {"fault": fault.name}, {"n": 2}])
    before, error, after = results_of(done)
    assert (done.returncode, before) == (4, {"n": 1})
    check(error, fault)
    # The event was sent to the same worker, which may have begun it.
    assert after["errorType"] == "Runtime.ProtocolError"


@pytest.mark.parametrize(("handler", "type", "message", "line"), LOADING, ids=[row[0] for row in LOADING])
def test_a_function_that_cannot_be_loaded(
    pipe_init: PipeInit, handler: str, type: str, message: str, line: str
) -> None:
    done = run(pipe_init, handler)
    assert (done.returncode, done.stdout) == (3, b"")
    check(error_of(done), Fault(handler.partition(".")[0], handler, type, message, 3, line))


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE, modes.WORKERS)  # in the other mode one event is taken at a time
def test_a_function_that_cannot_be_loaded_answers_every_event_so(pipe_init: PipeInit) -> None:
    handler, type, message, line = next(row for row in LOADING if row[3])
    done = run_events(pipe_init, handler, [{"n": 1}, {"n": 2}])
    first, second = results_of(done)
    assert done.returncode == 3
    for error in (first, second):
        check(error, Fault(handler.partition(".")[0], handler, type, message, 3, line))


def test_a_syntax_error_names_file_and_line(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef broken(:\n")
    done = pipe_init("run", "broken.handler", "-q", cwd=tmp_path)
    error = error_of(done)
    assert done.returncode == 3
    assert error["errorType"] == "Runtime.UserCodeSyntaxError"
    assert error["errorMessage"].startswith("Syntax error in module 'broken': ")
    (line,) = error["stackTrace"]
    assert line.startswith(f'  File "{tmp_path}/broken.py", line 2, ')


def test_an_event_that_is_not_json_is_an_error_in_its_line_and_a_usage_error_alone(pipe_init: PipeInit) -> None:
    done = pipe_init("run", "raises.handler", "-q", "--events", "-", cwd=FUNCTIONS, stdin=b'{"n": 1}\n{"n"\n{"n": 3}\n')
    first, error, third = results_of(done)
    assert (done.returncode, first, third) == (1, {"n": 1}, {"n": 3})
    check(error, Fault("raises", "", "Runtime.UnmarshalError", "Unable to unmarshal input: …", 1))
    alone = run(pipe_init, "raises.handler", "-e", '{"n"')
    assert (alone.returncode, alone.stdout) == (2, b"")
    assert b"is not JSON" in alone.stderr


def test_causes_are_told_with_their_own_stacks(pipe_init: PipeInit) -> None:
    chain = error_of(run(pipe_init, "raises.handler", "-e", '{"fault": "chain"}'))["cause"]
    check(chain, Fault("raises", "chain", "KeyError", "'inner'", 1, "chain.cause"))
    context = error_of(run(pipe_init, "raises.handler", "-e", '{"fault": "context"}'))["cause"]
    assert context["errorType"] == "ValueError"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_the_members_of_a_group_are_told(pipe_init: PipeInit) -> None:
    members = error_of(run(pipe_init, "raises.handler", "-e", '{"fault": "group"}'))["exceptions"]
    assert [member["errorType"] for member in members] == ["OSError", "ValueError"]


def test_a_module_that_raises(pipe_init: PipeInit, tmp_path: Path) -> None:
    for name, type, message in (("raises", "LookupError", "no configuration"), ("leaves", "SystemExit", "4")):
        done = load(pipe_init, tmp_path, name)
        assert done.returncode == 3
        check(error_of(done), Fault("loading", name, type, message, 3, name))


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE)  # in the other modes several workers try to start
def test_a_crash_at_import_is_tried_again_and_then_given_up(pipe_init: PipeInit, tmp_path: Path) -> None:
    once = load(pipe_init, tmp_path, "exits")
    message = EXIT + "exit status 9 while it was loading the handler"
    check(error_of(once), Fault("loading", "exits", "Runtime.ExitError", message, 3))
    assert (once.returncode, starts(tmp_path)) == (3, 1)
    again = load(pipe_init, tmp_path, "exits", "--events", "-", stdin=b"1\n2\n3\n")
    assert (again.returncode, starts(tmp_path)) == (3, 1 + 5)
    results = results_of(again)
    assert len(results) == 3
    for error in results:
        check(error, Fault("loading", "exits", "Runtime.ExitError", message, 3))


def test_an_import_that_hangs_shows_its_line(pipe_init: PipeInit, tmp_path: Path) -> None:
    # The worker must reach that line within two seconds, on a busy machine too.
    done = load(pipe_init, tmp_path, "hangs", "--start-timeout", "2")
    message = "RequestId: {id} Error: The function was not ready after 2.00 seconds"
    assert done.returncode == 124
    check(error_of(done), Fault("loading", "hangs", "Sandbox.Timedout", message, 124, "hangs"))


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE)  # in the other modes another worker gets the next event
def test_the_first_answer_counts_even_a_forged_one_and_a_second_is_a_violation(pipe_init: PipeInit) -> None:
    # After the first event, pipe-init sends two at once. So the violation has a request that can report it.
    done = run_events(pipe_init, "descriptors.handler", [{"n": 1}, {"fault": "forged_twice"}, {"n": 2}])
    first, second, third = results_of(done)
    assert (done.returncode, first, second) == (4, {"n": 1}, "forged")
    check(third, Fault("descriptors", "", "Runtime.ProtocolError", BROKEN + "RESULT for id 2, …", 4))


@pytest.mark.parametrize(("fault", "result"), [("nonblocking", "x" * 1_000_000), ("closes_streams", "closed")])
def test_what_a_function_does_to_its_descriptors_costs_no_result(pipe_init: PipeInit, fault: str, result: str) -> None:
    done = run_events(pipe_init, "descriptors.handler", [{"fault": fault}, {"n": 1}, {"fault": fault}, {"n": 2}])
    assert (done.returncode, results_of(done)) == (0, [result, {"n": 1}, result, {"n": 2}])


def test_a_function_that_closes_our_descriptors_is_told_so(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "descriptors.handler", "-e", '{"fault": "closes_all"}')
    assert done.stderr.startswith(b"pipe_runtime: the pipe to pipe-init is lost (did the function close it?): ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("fault", ["floods_streams", "endless_line"])
def test_a_flood_of_log_is_cut_and_costs_pipe_init_no_memory(pipe_init: PipeInit, fault: str) -> None:
    done = run_events(pipe_init, "descriptors.handler", [{"fault": "peak_of_init"}, {"fault": fault}, {"n": 1}])
    before, after, next_one = results_of(done)
    assert (done.returncode, next_one) == (0, {"n": 1})
    assert after - before < 16 * 1024  # KiB, while the function writes 100 MB
    assert len(done.stderr) < 1.1 * 2**20
    *_, marker = done.stderr.splitlines()
    assert re.fullmatch(
        rb"pipe-init: \d+ log lines \((9|10)\d{7} bytes\) of this request were dropped; "
        rb"a request may log 1048576 bytes",
        marker,
    )


@pytest.mark.parametrize("fault", ["child_that_keeps_the_pipes", "daemon", "thread_that_stays"])
def test_what_a_request_leaves_running_holds_up_no_answer_and_is_gone_at_the_end(
    pipe_init: PipeInit, fifo: Fifo, fault: str
) -> None:
    event = {"fault": fault, "fifo": fifo.path}
    one = run(pipe_init, "leaves.handler", "-e", json.dumps(event))
    assert (one.returncode, one.stdout) == (0, b'"left"\n')
    fifo.expect_all_gone()
    many = run_events(pipe_init, "leaves.handler", [event, {"n": 1}])
    assert (many.returncode, results_of(many)) == (0, ["left", {"n": 1}])
    fifo.expect_all_gone()


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE, modes.REQUEST)  # with several workers the events run at the same time
def test_what_a_killed_worker_leaves_running_is_gone_before_the_next_request(pipe_init: PipeInit, fifo: Fifo) -> None:
    dies = {"fault": "daemon_and_death", "fifo": fifo.path}
    look = {"fault": "read_all", "fifo": fifo.path}
    done = run_events(pipe_init, "leaves.handler", [dies, look])
    error, seen = results_of(done)
    check(error, Fault("leaves", "", "Runtime.ExitError", EXIT + "signal: killed", 137))
    assert (done.returncode, seen) == (137, "here\n")


@pytest.mark.parametrize(("fault", "result"), [("returns_twice", "parent"), ("raises_in_fork", 1)])
def test_a_fork_that_comes_back_from_the_handler_ends_there(pipe_init: PipeInit, fault: str, result: object) -> None:
    done = run_events(pipe_init, "leaves.handler", [{"fault": fault}, {"n": 1}])
    assert (done.returncode, results_of(done)) == (0, [result, {"n": 1}])
    assert (b"RuntimeError: in the child" in done.stderr) == (fault == "raises_in_fork")


def test_a_tracer_cannot_hold_up_the_end(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "leaves.handler", "--grace", "0.1", "-e", '{"fault": "traced"}')
    require(done.stdout != b'"this system forbids it"\n', "needs ptrace(2)")
    assert (done.returncode, done.stdout, error_of(done)["errorType"]) == (4, b"", "Runtime.ProtocolError")


def test_a_worker_that_its_tracer_stops_is_ended_at_its_limit(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "leaves.handler", "-t", "1", "--grace", "0.1", "-e", '{"fault": "traced_and_stopped"}')
    require(done.stdout != b'"this system forbids it"\n', "needs ptrace(2)")
    assert (done.returncode, done.stdout, error_of(done)["errorType"]) == (124, b"", "Sandbox.Timedout")


def test_a_fork_below_python_is_no_second_runtime(pipe_init: PipeInit) -> None:
    done = run_events(pipe_init, "leaves.handler", [{"fault": "returns_twice_below"}, {"n": 1}])
    assert (done.returncode, results_of(done)) == (0, ["parent", {"n": 1}])


def test_a_fork_below_python_prints_for_itself(pipe_init: PipeInit) -> None:
    events = [{"fault": "prints_below"}, {"n": 1}, {"fault": "prints_below"}, {"n": 2}]
    done = run_events(pipe_init, "leaves.handler", events)
    assert (done.returncode, results_of(done)) == (0, ["parent", {"n": 1}, "parent", {"n": 2}])


def test_what_was_flushed_of_a_line_is_seen_though_the_handler_hangs(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "hangs.handler", "-t", "1", "-e", '{"fault": "connects"}')
    assert (done.returncode, done.stderr.splitlines()[0]) == (124, b"connecting ...")


def test_a_fork_of_a_fork_leaves_the_functions_descriptors_alone(pipe_init: PipeInit) -> None:
    done = run(pipe_init, "leaves.handler", "-e", '{"fault": "forks_deeply"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")


def test_work_for_the_exit_is_done(pipe_init: PipeInit, fifo: Fifo) -> None:
    event = {"fault": "at_exit", "fifo": fifo.path}
    done = run_events(pipe_init, "leaves.handler", [event, {"n": 1}])
    assert (done.returncode, results_of(done)) == (0, ["registered", {"n": 1}])
    fifo.expect_all_gone()


def test_an_alarm_of_an_earlier_request_kills_no_later_one(pipe_init: PipeInit) -> None:
    events = [{"fault": "alarm"}, *({"n": number} for number in range(50))]
    done = run_events(pipe_init, "leaves.handler", events)
    first, *rest = results_of(done)
    assert first == "set"
    # The alarm belongs to the function. One later request may get its exception, or fail while its event is decoded or
    # its result encoded. No worker may die of it.
    seen = [line for line in rest if "errorType" in line]
    kinds = [line["errorType"] for line in seen]
    assert kinds in ([], ["TimeoutError"], ["Runtime.UnmarshalError"], ["Runtime.MarshalError"])
    assert done.returncode == len(seen)


def test_an_old_timeout_does_not_kill_a_later_request(pipe_init: PipeInit) -> None:
    # Each event takes less than the limit, and all together take more. The time must start anew for each.
    events = [{"fault": "naps"}] * 4
    done = run_events(pipe_init, "hangs.handler", events, "-t", "1")
    assert (done.returncode, results_of(done)) == (0, ["rested"] * 4)


def run(pipe_init: PipeInit, handler: str, *options: str) -> Finished:
    return pipe_init("run", handler, "-q", *options, cwd=FUNCTIONS)


def run_events(pipe_init: PipeInit, handler: str, events: list[Any], *options: str) -> Finished:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return pipe_init("run", handler, "-q", *options, "--events", "-", cwd=FUNCTIONS, stdin=lines.encode())


def load(pipe_init: PipeInit, folder: Path, fault: str, *options: str, stdin: bytes = b"") -> Finished:
    variables = {"FAULT": fault, "STARTS": str(folder / "starts")}
    return pipe_init("run", "loading.handler", "-q", *options, cwd=FUNCTIONS, env=variables, stdin=stdin)


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text().splitlines())


def results_of(done: Finished) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def error_of(done: Finished) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return error


def worst(codes: set[int]) -> int:
    """Return the exit code of a run as README.md defines it: the first present of 137, 128+n, 124, 1, 0."""
    if 137 in codes:
        return 137
    return min((code for code in codes if code > 128), default=124 if 124 in codes else max(codes))


def check(error: dict[str, Any], fault: Fault) -> None:
    """Check that the error is the one in the table."""
    assert error["errorType"] == fault.type
    expected = fault.message.replace("{id}", error.get("requestId", ""))
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    assert re.fullmatch(pattern, error["errorMessage"], re.DOTALL), error["errorMessage"]
    if not fault.line:
        assert error["stackTrace"] == []
    elif fault.line in (NO_STACK, ENDED):
        assert error["stackTrace"] == [f"  {fault.line}\n"]
    else:
        file = FUNCTIONS / f"{fault.module}.py"
        ours = [entry for entry in error["stackTrace"] if str(file) in entry]
        assert ours, error["stackTrace"]
        assert ours[-1].startswith(f'  File "{file}", line {marked_line(file, fault.line)}, in '), ours[-1]


def marked_line(file: Path, name: str) -> int:
    (number,) = (
        number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith(f"# <- {name}")
    )
    return number
