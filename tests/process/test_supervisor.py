"""Tests of the whole supervision with real workers: each request has one outcome, and the next one is not harmed.

The honest worker is our own runtime, and its function may do anything. The hostile worker is a small program that
speaks just enough of the protocol.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import exit_codes
from pipe_init.model import MAX_PAYLOAD, Outcome
from pipe_init.workers import launch
from pipe_runtime.wire.errors import LocalProtocolError
from pipe_testing import processes
from pipe_testing.supervision import Driver, few_descriptors, supervised

SHORT = 0.3
"""The seconds that a request gets that hangs on purpose."""

HANDLER = """
import faulthandler, os, signal, subprocess, sys, threading, time

def handler(event, context):
    action = event.get("do")
    if action == "raise":
        raise KeyError("name")
    if action == "hang":
        hang()
    if action:
        exec(action, {**globals(), "event": event, "context": context})
    return {"pid": os.getpid(), "event": event}

def hang():
    while True:
        time.sleep(1000)
"""

HOSTILE = '''
import fcntl, os, signal, struct, sys, time
import msgpack

def frame(kind, id=0, metadata={}, payload=b""):
    return raw(msgpack.packb([kind, id, metadata]), payload)

def raw(head, payload=b""):
    return struct.pack(">II", 4 + len(head) + len(payload), len(head)) + head + payload

def write(data, descriptor=1):
    while data:
        data = data[os.write(descriptor, data):]

def read(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data

def hear():
    length, = struct.unpack(">I", read(4))
    body = read(length)
    head, = struct.unpack(">I", body[:4])
    kind, id, metadata = msgpack.unpackb(body[4:4 + head])
    if kind == 12:
        os._exit(0)
    return id, body[4 + head:]

def result(id, payload=b'"fine"'):
    return frame(4, id, {"content_type": "application/json"}, payload)

def first_time():
    try:
        os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def forever(data, descriptor=1):
    while True:
        write(data, descriptor)

def spawn(code):
    """A daemon that survives this process, with all its descriptors."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            code()
        os._exit(0)
    os.wait()

hello = {"versions": [1], "window_requests": 64, "window_bytes": 1 << 20}
ready = {}
'''

SERVE = """
hear()
write(frame(1, 0, hello) + frame(2, 0, ready))
while True:
    id, payload = hear()
    case = CASES.get(payload.strip(b'"'))
    if case:
        exec(case, {**globals(), "id": id})
    else:
        write(result(id))
"""


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Driver]:
    """Yield a supervisor whose workers run pipe_runtime with HANDLER."""
    with running(tmp_path) as driver:
        yield driver


def running(tmp_path: Path, code: str = HANDLER, **options: Any) -> AbstractContextManager[Driver]:
    """Return a supervisor whose workers run this code as index.py. Settings such as window_requests are keywords."""
    folder = tmp_path / "function"
    folder.mkdir(exist_ok=True)
    (folder / "index.py").write_text(code)
    hello = {"handler": "index.handler", "code_dir": str(folder)}
    return supervised(tmp_path / "log", launch.runtime_command(sys.executable), hello=hello, **options)


def hostile(
    tmp_path: Path, misbehave: str | dict[str, str] = "pass", start: str = "pass", **options: Any
) -> AbstractContextManager[Driver]:
    """Return a supervisor of the program HOSTILE.

    Args:
        tmp_path: A folder for its files.
        misbehave: What the program does on the event "bad", or on each event in a dict.
        start: What the program does before its HELLO.
        options: Options of the supervisor.
    """
    cases = {"bad": misbehave} if isinstance(misbehave, str) else misbehave
    given = {name.encode(): code for name, code in cases.items()}
    program = tmp_path / "program.py"
    program.write_text(f"{HOSTILE}\nMARK = {str(tmp_path / 'mark')!r}\nCASES = {given!r}\n{start}\n{SERVE}")
    return supervised(tmp_path / "log", [sys.executable, str(program)], **options)


def do(action: str, **more: object) -> bytes:
    """Return an event that lets HANDLER do this."""
    return json.dumps({"do": action, **more}).encode()


def pid_of(outcome: Outcome) -> int:
    """Return the pid of the process that answered."""
    assert outcome.problem is None, outcome.problem
    return int(json.loads(outcome.payload)["pid"])


def problem_of(outcome: Outcome) -> tuple[str, str]:
    """Return the type and message of an error."""
    assert outcome.problem is not None, outcome.payload
    return str(outcome.problem["error_type"]), str(outcome.problem["error_message"])


# Our own runtime


def test_a_result(function: Driver) -> None:
    outcome = function.ask(b'{"a": 1}')
    assert outcome.exit_code == 0
    assert outcome.content_type == "application/json"
    assert json.loads(outcome.payload)["event"] == {"a": 1}
    assert outcome.measured["duration_us"] > 0
    assert outcome.measured["peak_memory_bytes"] > 2**20
    assert "init_us" in outcome.measured


def test_one_worker_serves_many_requests(function: Driver) -> None:
    outcomes = [function.ask() for _ in range(20)]
    assert len({pid_of(outcome) for outcome in outcomes}) == 1
    assert "init_us" not in outcomes[1].measured  # a cold start is reported once


def test_an_error_costs_no_worker(function: Driver) -> None:
    before = pid_of(function.ask())
    outcome = function.ask(do("raise"))
    assert problem_of(outcome) == ("KeyError", "'name'")
    assert outcome.exit_code == exit_codes.FUNCTION_FAILED
    assert pid_of(function.ask()) == before


@pytest.mark.parametrize(
    ("action", "why", "code"),
    [
        ("os._exit(0)", "exit status 0", 1),
        ("os._exit(7)", "exit status 7", 1),
        ("os._exit(255)", "exit status 255", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal: killed", 137),
        ("os.kill(os.getpid(), signal.SIGTERM)", "signal: terminated", 143),
        ("faulthandler._sigsegv()", "signal: segmentation fault", 139),
        ("os.abort()", "signal: aborted", 134),
        ("os.execv('/bin/sh', ['sh', '-c', 'exit 3'])", "exit status 3", 1),
    ],
)
def test_a_worker_that_dies(function: Driver, action: str, why: str, code: int) -> None:
    before = pid_of(function.ask())
    outcome = function.ask(do(action))
    assert problem_of(outcome) == ("Runtime.ExitError", f"RequestId: r2 Error: Runtime exited with error: {why}")
    assert outcome.exit_code == code
    assert outcome.measured["duration_us"] >= 0
    assert pid_of(function.ask()) != before


def test_a_crash_has_a_stack(function: Driver) -> None:
    outcome = function.ask(do("faulthandler._sigsegv()"))
    assert outcome.problem is not None
    assert any(entry[2] == "handler" for entry in outcome.problem["stack"])


@pytest.mark.parametrize(
    "action",
    [
        "hang()",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); hang()",
        "threading.Thread(target=hang).start(); hang()",
    ],
)
def test_a_timeout_has_the_stack_of_what_hung(function: Driver, action: str) -> None:
    before = pid_of(function.ask())
    outcome = function.ask(do(action), timeout=SHORT)
    assert problem_of(outcome) == (
        "Sandbox.Timedout",
        f"RequestId: r2 Error: Task timed out after {SHORT:.2f} seconds",
    )
    assert outcome.exit_code == exit_codes.TIMED_OUT
    assert outcome.measured["duration_us"] >= SHORT * 1e6
    assert outcome.problem is not None
    stack = outcome.problem["stack"]
    assert [entry[2] for entry in stack][-2:] == ["<module>", "hang"]
    assert all("pipe_runtime" not in entry[0] for entry in stack)
    assert pid_of(function.ask()) != before


def test_a_worker_that_stops_itself_is_woken_for_its_stack(function: Driver) -> None:
    outcome = function.ask(do("os.kill(os.getpid(), signal.SIGSTOP); hang()"), timeout=SHORT)
    assert outcome.exit_code == exit_codes.TIMED_OUT
    assert outcome.problem is not None
    assert outcome.problem["stack"][0][0].endswith("index.py")
    assert pid_of(function.ask()) > 0


def test_without_a_stack_it_says_why(function: Driver) -> None:
    action = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); hang()"
    outcome = function.ask(do(action), timeout=SHORT)
    assert outcome.exit_code == exit_codes.TIMED_OUT
    assert outcome.problem is not None
    ((_, _, words, _),) = outcome.problem["stack"]
    assert words.startswith("no stack: ")
    assert pid_of(function.ask()) > 0


def test_a_timeout_does_not_hit_the_next_request(function: Driver) -> None:
    function.ask(timeout=SHORT)
    outcome = function.ask(do(f"time.sleep({SHORT * 2})"))
    assert outcome.exit_code == 0


def test_a_handler_that_is_not_there(tmp_path: Path) -> None:
    with running(tmp_path, "") as driver:
        driver.submit()
        driver.submit()
        outcomes = driver.outcomes(2)
        for outcome in outcomes:
            assert problem_of(outcome) == ("Runtime.HandlerNotFound", "Handler 'handler' missing on module 'index'")
            assert outcome.exit_code == exit_codes.NOT_LOADED
        assert not driver.supervisor.has_room()
        with pytest.raises(ValueError, match="no request is taken"):
            driver.submit()


def test_a_crash_at_import_is_tried_again_up_to_a_limit(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"import os\nopen({str(starts)!r}, 'a').write('x')\nos._exit(5)"
    with running(tmp_path, code, start_attempts=4) as driver:
        driver.submit()
        driver.submit()
        for outcome in driver.outcomes(2):
            kind, message = problem_of(outcome)
            assert kind == "Runtime.ExitError"
            assert message.endswith("exit status 5 while it was loading the handler")
            assert outcome.exit_code == exit_codes.NOT_LOADED
        assert driver.supervisor.ended
    assert starts.read_text() == "xxxx"


def test_back_off_between_failed_starts(tmp_path: Path) -> None:
    times = tmp_path / "times"
    code = f"import os, time\nopen({str(times)!r}, 'a').write(f'{{time.monotonic()}} ')\nos._exit(5)"
    with running(tmp_path, code, start_attempts=4, backoff=0.1) as driver:
        driver.ask()
    started = [float(text) for text in times.read_text().split()]
    gaps = [later - earlier for earlier, later in zip(started, started[1:], strict=False)]
    assert len(gaps) == 3
    assert all(gap >= at_least for gap, at_least in zip(gaps, (0.1, 0.2, 0.4), strict=True))


def test_a_start_that_fails_once_costs_no_request(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import os\nif not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'x')\n    os._exit(5)\n"
    with running(tmp_path, code + HANDLER) as driver:
        assert driver.ask().exit_code == 0


def test_a_start_that_hangs(tmp_path: Path) -> None:
    with running(tmp_path, "import time\ntime.sleep(1000)", start_timeout=1.0, start_attempts=1) as driver:
        outcome = driver.ask()
        assert problem_of(outcome) == (
            "Sandbox.Timedout",
            "RequestId: r1 Error: The function was not ready after 1.00 seconds",
        )
        assert outcome.exit_code == exit_codes.TIMED_OUT


def test_what_a_dying_worker_logged_is_kept(function: Driver) -> None:
    function.ask(do("print('printed'); os.write(1, b'raw '); os.write(2, b'words'); os._exit(1)"))
    assert sorted(function.log.read_bytes().split(b"\n")) == [b"", b"printed", b"raw words"]


def test_log_lines_come_before_the_end_line(tmp_path: Path) -> None:
    with running(tmp_path, log_style="lambda") as driver:
        driver.ask(do("print('one'); print('two')"))
    lines = driver.log.read_text().splitlines()
    assert lines[:4] == ["START RequestId: r1 Version: $LATEST", "one", "two", "END RequestId: r1"]
    assert lines[4].startswith("REPORT RequestId: r1\tDuration: ")


def test_raw_lines_that_come_together_with_the_outcome_are_written_first(tmp_path: Path) -> None:
    with running(tmp_path, log_style="lambda") as driver:
        driver.ask()
        driver.submit(do("os.write(2, b'raw\\n')"))
        link = driver.supervisor._lanes[0].link
        assert link is not None
        answered = select.poll()
        answered.register(link.pipes.answers, select.POLLIN)
        answered.poll()
        driver.outcomes()
    lines = driver.log.read_text().splitlines()
    assert lines.index("raw") + 1 == lines.index("END RequestId: r2")


# Windows


def test_a_crash_in_the_middle_of_a_window(tmp_path: Path) -> None:
    count, victim = 40, 17
    with running(tmp_path, window_requests=16) as driver:
        for number in range(count):
            driver.submit(do("os._exit(3)" if number == victim else "", number=number))
        outcomes = driver.outcomes(count)
    assert [outcome.request_id for outcome in outcomes] == [f"r{number + 1}" for number in range(count)]
    assert [outcome.exit_code for outcome in outcomes] == [int(number == victim) for number in range(count)]
    fine = [outcome for outcome in outcomes if outcome.problem is None]
    assert [json.loads(outcome.payload)["event"]["number"] for outcome in fine] == [
        number for number in range(count) if number != victim
    ]
    assert len({pid_of(outcome) for outcome in fine}) == 2


def test_a_timeout_in_the_middle_of_a_window(tmp_path: Path) -> None:
    with running(tmp_path, window_requests=8) as driver:
        for number in range(8):
            driver.submit(do("hang" if number == 3 else ""), timeout=1.0)
        assert [outcome.exit_code for outcome in driver.outcomes(8)] == [0, 0, 0, 124, 0, 0, 0, 0]


def test_a_worker_that_was_only_slow_stays(tmp_path: Path) -> None:
    with running(tmp_path, dump_wait=30.0, dump_quiet=30.0, window_requests=2) as driver:
        worker = pid_of(driver.ask())
        driver.submit(do("time.sleep(1.5)"), timeout=SHORT)
        driver.submit()
        late, following = driver.outcomes(2)
        assert late.exit_code == exit_codes.TIMED_OUT
        assert pid_of(following) == worker


def test_the_runtime_is_waited_for_that_answers_where_its_tasks_are(tmp_path: Path) -> None:
    """Check a runtime whose event loop is a little late: the signal's stack is there long before its answer."""
    source = """
        import asyncio, time

        async def handler(event, context):
            def busy():
                time.sleep(0.3)
                asyncio.get_running_loop().call_soon(busy)
            busy()
            await forever()

        async def forever():
            await asyncio.Event().wait()
        """
    with running(tmp_path, textwrap.dedent(source), dump_wait=30.0) as driver:
        problem = driver.ask(timeout=0.5).problem
        assert problem is not None and [entry[2] for entry in problem["stack"]][:2] == ["handler", "forever"]


def test_an_answer_without_a_stack_is_not_all_that_can_be_had(tmp_path: Path) -> None:
    start = f"""
        import faulthandler
        faulthandler.register({launch.DUMP_SIGNAL:d}, file={launch.DUMP_FD})
        hello["capabilities"] = ["dump-signal"]
        ready["answers_dump"] = True
        def wait_here():
            time.sleep(1000)
        """
    with hostile(
        tmp_path, "hear(); write(frame(11, 0, {'stacks': []})); wait_here()", textwrap.dedent(start)
    ) as driver:
        driver.ask()
        problem = driver.ask(b'"bad"', timeout=SHORT).problem
        assert problem is not None and "wait_here" in [entry[2] for entry in problem["stack"]]


def test_each_crash_takes_one_request_with_it(tmp_path: Path) -> None:
    with running(tmp_path, window_requests=8) as driver:
        for number in range(12):
            driver.submit(do("os._exit(3)" if number % 2 else ""))
        assert [outcome.exit_code for outcome in driver.outcomes(12)] == [0, 1] * 6


def test_a_runtime_with_a_smaller_window_gets_no_more(tmp_path: Path) -> None:
    start = "hello = {'versions': [1]}"  # the default window: one request
    with hostile(tmp_path, start=start, window_requests=64) as driver:
        for _ in range(10):
            driver.submit()
        assert [outcome.exit_code for outcome in driver.outcomes(10)] == [0] * 10


def test_a_request_that_the_runtime_cannot_take(tmp_path: Path) -> None:
    start = "hello['max_frame'] = 65540"
    with hostile(tmp_path, start=start, window_requests=4) as driver:
        driver.ask()
        for size in (2, 100_000, 2, 100_000, 100_000, 2, 2, 2):
            driver.submit(b"1" * size)
        outcomes = driver.outcomes(8)
        assert [outcome.request_id for outcome in outcomes] == [f"r{number}" for number in range(2, 10)]
        assert [outcome.exit_code for outcome in outcomes] == [0, 1, 0, 1, 1, 0, 0, 0]
        assert problem_of(outcomes[1])[0] == "RequestTooLargeException"
        # Now the worker is idle.
        assert problem_of(driver.ask(b"1" * 100_000))[0] == "RequestTooLargeException"
        assert driver.ask().exit_code == 0


def test_a_payload_beyond_the_frame(function: Driver) -> None:
    outcome = function.ask(bytes(MAX_PAYLOAD + 1))
    assert problem_of(outcome)[0] == "RequestTooLargeException"
    assert function.ask(b'{"a": "' + b"x" * (MAX_PAYLOAD - 9) + b'"}', timeout=60).exit_code in (0, 1)
    assert function.ask().exit_code == 0


# A program that breaks the rules

VIOLATIONS = {
    "garbage": "write(b'\\xff' * 64); time.sleep(1000)",
    "text": "write(b'Starting up...\\n'); time.sleep(1000)",
    "a length of 4 GiB": "write(b'\\xff\\xff\\xff\\xff'); time.sleep(1000)",
    "a frame just too long": "write(struct.pack('>II', 16 * 2**20 + 1, 4)); time.sleep(1000)",
    "a head of 64 KiB and a byte": "write(struct.pack('>II', 70000, 65537)); time.sleep(1000)",
    "garbage for ever": "forever(os.urandom(65536))",
    "the answer to another id": "write(result(id + 1)); time.sleep(1000)",
    "the answer to an old id": "write(result(1)); time.sleep(1000)",
    "a result for no id": "write(result(0)); time.sleep(1000)",
    "READY twice": "write(frame(2)); time.sleep(1000)",
    "HELLO twice": "write(frame(1, 0, hello)); time.sleep(1000)",
    "an INVOKE": "write(frame(3, id, {'request_id': 'x', 'content_type': 'x', 'accept': 'x'})); time.sleep(1000)",
    "an unknown kind": "write(frame(99)); time.sleep(1000)",
    "a reserved kind": "write(frame(7, id)); time.sleep(1000)",
    "a line for another id": "write(frame(6, id + 1, {'stream': 'stdout'}, b'x')); time.sleep(1000)",
    "a result without a type": "write(frame(4, id, {})); time.sleep(1000)",
    "a number for a text": "write(frame(5, id, {'error_type': 1, 'error_message': ''})); time.sleep(1000)",
    "an object bomb": "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x' + b'\\xdc\\x04\\x00' * 20000)); time.sleep(1000)",
    "a bomb of empty maps": (
        "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x\\xdd\\x00\\x00\\xff\\x00' + b'\\x80' * 65280)); time.sleep(1000)"
    ),
    "a depth bomb": "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x' + b'\\x91' * 60000 + b'\\xc0')); time.sleep(1000)",
    "an extension type": "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x\\xd4\\x05\\x00')); time.sleep(1000)",
    "a bad timestamp": "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x\\xd7\\xff' + b'\\xff' * 8)); time.sleep(1000)",
    "a key twice": "write(raw(b'\\x93\\x04\\x01\\x82\\xa1x\\x01\\xa1x\\x02')); time.sleep(1000)",
    "bad UTF-8": "write(raw(b'\\x93\\x04\\x01\\x81\\xa1x\\xa1\\xff')); time.sleep(1000)",
    "a last word that is none": "write(frame(5, 0, {'error_type': 'x', 'error_message': 'y'})); time.sleep(1000)",
    "a closed stream, and goes on": "os.close(1); time.sleep(1000)",
    "half a frame, and closes": "write(result(id)[:-1]); os.close(1); time.sleep(1000)",
}


def test_a_violation_costs_one_request(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile(tmp_path, VIOLATIONS) as driver:
        for name in VIOLATIONS:
            assert driver.ask().exit_code == 0, f"before {name}"
            outcome = driver.ask(f'"{name}"'.encode())
            kind, message = problem_of(outcome)
            prefix = f"RequestId: {outcome.request_id} Error: The runtime broke the protocol: "
            found = (kind, message[: len(prefix)], outcome.exit_code)
            assert found == ("Runtime.ProtocolError", prefix, exit_codes.PROTOCOL), name
        assert driver.ask().exit_code == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


DEATHS = {
    "half a frame, then dies": ("write(result(id)[:-1]); os._exit(3)", "exit status 3"),
    "half a length, then is killed": ("write(b'\\0\\0'); os.kill(os.getpid(), 9)", "signal: killed"),
    "a child holds the pipes": ("spawn(lambda: time.sleep(1000)); os._exit(3)", "exit status 3"),
    "children flood the answers": ("spawn(lambda: forever(b'\\xff' * 65536)); os._exit(3)", None),
    "children flood the log": ("spawn(lambda: forever(b'x' * 65536, 2)); os._exit(3)", "exit status 3"),
    "children flood the stacks": (
        "[spawn(lambda: forever(b'x' * 65536, 4)) for _ in range(4)]; os._exit(3)",
        "exit status 3",
    ),
    "children write lines": (
        "data = frame(6, id, {'stream': 'x'}) * 3000; spawn(lambda: forever(data)); os._exit(3)",
        None,  # a line that is incomplete because its writer died
    ),
}


def test_a_death_is_a_death_whoever_holds_the_pipes(tmp_path: Path) -> None:
    with hostile(tmp_path, {name: code for name, (code, _) in DEATHS.items()}) as driver:
        for name, (_, why) in DEATHS.items():
            assert driver.ask().exit_code == 0, f"before {name}"
            outcome = driver.ask(f'"{name}"'.encode())
            kind, message = problem_of(outcome)
            if why is None:
                assert kind in ("Runtime.ExitError", "Runtime.ProtocolError"), name
            else:
                wanted = f"RequestId: {outcome.request_id} Error: Runtime exited with error: {why}"
                assert (kind, message) == ("Runtime.ExitError", wanted), name
        assert driver.ask().exit_code == 0
    assert driver.log.stat().st_size < 2 * len(DEATHS) * 2**20


HANGS = {
    "does nothing": "time.sleep(1000)",
    "never ends a frame": "write(result(id)[:-1]); time.sleep(1000)",
    "writes a frame byte by byte": (
        "[(write(b'%c' % byte), time.sleep(0.01)) for byte in frame(6, id, {'stream': 'x'}, bytes(9999))]"
    ),
    "floods its log without a line break": "forever(b'x' * 65536, 2)",
    "floods its log with line breaks": "forever(b'\\n' * 65536, 2)",
    "floods with lines": "forever(frame(6, id, {'stream': 'x'}) * 3000)",
    "floods with long lines": "forever(frame(6, id, {'stream': 'x'}, bytes(2**20)))",
    "floods with stacks": "forever(frame(11) * 5000)",
    "floods the dump pipe": "forever(b'x' * 65536, 4)",
    "floods everything": "[os.fork() or forever(frame(11) * 5000, n) for n in (1, 2)]; forever(b'x', 4)",
    "sets O_NONBLOCK and hangs": "[os.set_blocking(n, False) for n in (0, 1, 2)]; time.sleep(1000)",
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(1000)",
    "claims what it cannot": "os.kill(os.getpid(), signal.SIGSTOP)",
}


def test_a_deadline_comes_in_time_whatever_the_worker_writes(tmp_path: Path) -> None:
    with hostile(tmp_path, HANGS, dump_wait=0.3) as driver:  # none of these programs writes a stack
        for name in HANGS:
            assert driver.ask().exit_code == 0, f"before {name}"
            start = time.monotonic()
            outcome = driver.ask(f'"{name}"'.encode(), timeout=SHORT)
            assert outcome.exit_code == exit_codes.TIMED_OUT, name
            assert time.monotonic() - start < SHORT + 8, name  # enough for a busy machine; a fault would take for ever
        assert driver.ask().exit_code == 0
    assert driver.log.stat().st_size < 2 * len(HANGS) * 2**20


def test_answering_twice(tmp_path: Path) -> None:
    with hostile(tmp_path, "write(result(id) + result(id, b'2')); time.sleep(1000)") as driver:
        outcome = driver.ask(b'"bad"')
        assert outcome.payload == b'"fine"'  # the first answer counts
        assert driver.ask().exit_code == 0


def test_a_worker_that_is_long_gone_answers_nobody(tmp_path: Path) -> None:
    """Check a daemon of a dead worker that goes on answering the next ids, into pipes that are not read any more."""
    misbehave = "spawn(lambda: forever(b''.join(result(n, b'1') for n in range(id + 1, id + 9)))); os._exit(3)"
    with hostile(tmp_path, misbehave) as driver:
        driver.ask()
        assert driver.ask(b'"bad"').problem is not None
        assert [driver.ask().payload for _ in range(5)] == [b'"fine"'] * 5


def test_a_runtime_that_does_not_measure_is_measured(tmp_path: Path) -> None:
    with hostile(tmp_path) as driver:
        driver.ask()  # the worker is ready now, so the next request is written at once
        before = time.monotonic()
        measured = driver.ask().measured
        assert 0 <= measured["duration_us"] <= (time.monotonic() - before) * 1e6


def test_closing_its_input_and_going_on(tmp_path: Path) -> None:
    with hostile(tmp_path, "os.close(0); write(result(id)); time.sleep(1000)") as driver:
        assert driver.ask(b'"bad"').exit_code == 0
        outcome = driver.ask()  # it cannot be delivered, and this is known long before its own time is over
        assert outcome.exit_code in (0, exit_codes.PROTOCOL)
        assert driver.ask().exit_code == 0


def test_a_worker_that_closes_everything_makes_nobody_spin(tmp_path: Path) -> None:
    with hostile(tmp_path, "os.close(2); os.close(4); time.sleep(0.5); write(result(id))") as driver:
        driver.ask()
        steps = driver.steps
        assert driver.ask(b'"bad"').exit_code == 0
        assert driver.steps - steps < 20


STARTS = {
    "never says HELLO": ("time.sleep(1000)", {exit_codes.TIMED_OUT}),
    "garbage": ("write(b'Traceback (most recent call last):\\n'); time.sleep(1000)", {exit_codes.PROTOCOL}),
    "another version": ("write(frame(1, 0, {'versions': [99]})); time.sleep(1000)", {exit_codes.PROTOCOL}),
    "READY before HELLO": ("write(frame(2)); time.sleep(1000)", {exit_codes.PROTOCOL}),
    "no window": (
        "write(frame(1, 0, {'versions': [1], 'window_requests': 0})); time.sleep(1000)",
        {exit_codes.PROTOCOL},
    ),
    "HELLO and no READY": ("write(frame(1, 0, {'versions': [1]})); time.sleep(1000)", {exit_codes.TIMED_OUT}),
    "an answer before READY": ("write(frame(1, 0, hello) + result(1)); time.sleep(1000)", {exit_codes.PROTOCOL}),
    "half a frame": ("write(frame(1, 0, hello)[:-1]); os._exit(1)", {0}),
    "closes its stream": ("os.close(1); time.sleep(1000)", {0}),
    "closes its input": (
        "os.close(0); time.sleep(1000)",
        {0, exit_codes.TIMED_OUT},
    ),  # noticed only before the first write
    "dies": ("os._exit(0)", {0}),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", {0}),
    "leaves a daemon": ("spawn(lambda: time.sleep(1000)); os._exit(1)", {0}),
}


@pytest.mark.parametrize(("start", "codes"), STARTS.values(), ids=STARTS.keys())
def test_a_bad_start_costs_one_request_at_most(tmp_path: Path, start: str, codes: set[int]) -> None:
    once = "if first_time():\n    " + start
    with hostile(tmp_path, start=once, start_timeout=10.0 if codes == {0} else 2.0, start_attempts=3) as driver:
        assert driver.ask().exit_code in codes
        assert driver.ask().exit_code == 0


# What cannot be started


def test_a_command_that_is_missing(tmp_path: Path) -> None:
    with supervised(tmp_path / "log", ["/nonexistent/python"]) as driver:
        outcome = driver.ask()
        assert problem_of(outcome) == (
            "Runtime.InvalidEntrypoint",
            "Cannot execute /nonexistent/python: No such file or directory",
        )
        assert outcome.exit_code == exit_codes.NOT_FOUND
        assert driver.supervisor.ended


def test_a_command_that_is_not_executable(tmp_path: Path) -> None:
    with supervised(tmp_path / "log", [str(tmp_path)]) as driver:
        assert driver.ask().exit_code == exit_codes.NOT_EXECUTABLE


@pytest.mark.parametrize("spare", [0, 3, 11])
def test_without_descriptors_a_request_has_an_outcome(tmp_path: Path, spare: int) -> None:
    with running(tmp_path, start_attempts=3) as driver:
        with few_descriptors(spare):
            driver.submit()
            outcome = driver.outcomes()[0]
        error_type, message = problem_of(outcome)
        assert error_type == "Runtime.ExitError"
        prefix = "RequestId: r1 Error: Runtime could not be started: "
        assert re.fullmatch(prefix + r"Too many open files \(the limit is \d+, see ulimit -n\)", message)
        assert outcome.exit_code == exit_codes.NOT_LOADED


def test_descriptors_that_come_back_in_time_cost_nothing(tmp_path: Path) -> None:
    with running(tmp_path, start_attempts=3) as driver:
        with few_descriptors(3):
            driver.submit()
        assert driver.outcomes()[0].exit_code == 0


def test_a_configuration_that_does_not_fit(tmp_path: Path) -> None:
    big = {"environment": {"A": "x" * 70_000}}
    with pytest.raises(LocalProtocolError), supervised(tmp_path / "log", ["true"], hello=big):
        pass


def test_an_early_worker_is_used(tmp_path: Path) -> None:
    early = launch.start(launch.runtime_command(sys.executable), launch.function_environment(os.environ))
    with running(tmp_path, early=early) as driver:
        assert pid_of(driver.ask()) == early.pid


def test_an_early_worker_that_died_is_replaced(tmp_path: Path) -> None:
    early = launch.start(launch.runtime_command(sys.executable), launch.function_environment(os.environ))
    with running(tmp_path, early=early) as driver:
        os.kill(early.pid, signal.SIGKILL)
        os.waitid(os.P_PID, early.pid, os.WEXITED | os.WNOWAIT)
        driver.until(lambda: early.closed or not driver.signals.wake() and driver.steps > 3)
        assert early.closed
        assert pid_of(driver.ask()) != early.pid


def test_an_early_worker_that_is_not_needed_is_dismissed(tmp_path: Path) -> None:
    early = launch.start(launch.runtime_command(sys.executable), launch.function_environment(os.environ))
    with running(tmp_path, early=early):
        pass
    assert early.closed
    assert processes.children() == set()


# The end


def test_closing_ends_everything(tmp_path: Path) -> None:
    daemon = "subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    with running(tmp_path) as driver:
        driver.ask(do(daemon))
        driver.ask(do("os.fork() or hang()"), timeout=SHORT)
        driver.supervisor.close()
        assert processes.children() == set()
        assert driver.supervisor.ended


def test_what_a_worker_left_is_swept_before_the_next_one(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        driver.ask(do("subprocess.Popen(['sleep', '1000'], start_new_session=True); os._exit(1)"))
        worker = pid_of(driver.ask())
        assert processes.children() == {worker}


def test_abandoning_at_any_moment(tmp_path: Path) -> None:
    """Check also right after the fork, when there is no process group yet to kill."""
    for _ in range(10):
        with running(tmp_path) as driver:
            driver.submit()
            driver.supervisor.abandon()
            (outcome,) = driver.outcomes()
            assert outcome.exit_code == exit_codes.STOPPED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_lets_the_running_request_end(tmp_path: Path, number: int) -> None:
    with running(tmp_path, grace=30.0) as driver:
        driver.ask()
        driver.submit(do(f"os.kill(os.getppid(), {int(number)}); time.sleep(0.1)"))
        driver.submit()
        outcomes = {outcome.request_id: outcome for outcome in driver.outcomes(2)}
        assert outcomes["r2"].exit_code == 0
        assert problem_of(outcomes["r3"])[0] == "Runtime.Stopped"
        assert outcomes["r3"].exit_code == exit_codes.STOPPED
        assert driver.supervisor.interrupted_by == number
        driver.until(lambda: driver.supervisor.ended)


def test_an_interrupt_has_patience_for_the_grace_time_only(tmp_path: Path) -> None:
    with running(tmp_path, grace=SHORT) as driver:
        driver.ask()
        driver.submit(
            do("signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getppid(), signal.SIGTERM); hang()")
        )
        outcome = driver.outcomes()[0]
        assert outcome.exit_code == exit_codes.STOPPED
        driver.until(lambda: driver.supervisor.ended)


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, grace=1000.0) as driver:
        driver.ask()
        driver.submit(do("hang()"))
        signal.raise_signal(signal.SIGTERM)
        driver.until(lambda: driver.supervisor.finishing)
        signal.raise_signal(signal.SIGTERM)
        assert driver.outcomes()[0].exit_code == exit_codes.STOPPED
        driver.until(lambda: driver.supervisor.ended)
        assert len(driver.signals.endings) == 2


def test_an_interrupt_while_the_dead_are_swept_is_heeded(tmp_path: Path) -> None:
    """Check an interrupt during the sweep, which waits for SIGCHLD on the same descriptor."""
    misbehave = """
fcntl.fcntl(2, fcntl.F_SETPIPE_SZ, 2**18)
spawn(lambda: time.sleep(1000))
write((b'x' * 63 + b'\\n') * 1025, 2)
os._exit(3)
"""
    with hostile(tmp_path, misbehave, grace=30.0) as driver:
        driver.ask()
        (worker,) = processes.children()
        driver.submit(b'"bad"')
        driver.submit(b'"bad"')
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        pieces = []

        def interrupt() -> None:
            pieces.append(1)
            if len(pieces) == 2:  # the first piece is read before the death is noticed, the second one after it
                signal.raise_signal(signal.SIGTERM)

        driver.journal.before_line = interrupt
        codes = {outcome.request_id: outcome.exit_code for outcome in driver.outcomes(2)}
        assert len(pieces) == 2
        assert codes == {"r2": exit_codes.FUNCTION_FAILED, "r3": exit_codes.STOPPED}
