"""Tests of parsing the stacks that a worker has written. The function may have forged them."""

from __future__ import annotations

import faulthandler
import os
import threading
from signal import SIGKILL, SIGSEGV, SIGTERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.kernel.reaper import Death
from pipe_init.model import BEFORE_FORK, Function, Request, Settings, WorkerEnd
from pipe_init.policy.actions import Cause
from pipe_init.policy.stackdump import parse_stacks, stacks_by_request
from pipe_init.policy.worker_failures import answer

CALL: list[object] = ["/code/index.py", 3, "handler", "    work()"]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "stack", "name", 1]), inner, max_size=3)
        | st.fixed_dictionaries({"id": inner, "stack": inner})
    ),
    max_leaves=24,
)


def test_each_request_has_its_own() -> None:
    entries = [{"name": "request 4", "id": 4, "stack": [CALL]}, {"id": 9, "stack": [CALL, CALL]}]
    assert stacks_by_request(entries) == {4: [CALL], 9: [CALL, CALL]}


@pytest.mark.parametrize(
    "entry",
    [
        {"id": 1},
        {"stack": [CALL]},
        {"id": 1, "stack": []},
        {"id": 1, "stack": ["a call"]},
        {"id": 1, "stack": {"0": CALL}},
        {"id": True, "stack": [CALL]},
        {"id": "1", "stack": [CALL]},
        {"id": [1], "stack": [CALL]},
        [1, [CALL]],
        None,
    ],
)
def test_what_is_none_is_left_out(entry: object) -> None:
    assert stacks_by_request([entry, {"id": 2, "stack": [None, CALL]}]) == {2: [CALL]}


@given(entries=ANYTHING)
def test_whatever_comes(entries: object) -> None:
    for id, stack in stacks_by_request(entries).items():
        assert type(id) is int
        assert stack and all(isinstance(call, list) for call in stack)


DUMP = """\
Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "/code/other.py", line 1 in run

Current thread 0x00007f2 (most recent call first):
  File "/code/lib.py", line 9 in work
  File "/code/index.py", line 3 in <module>
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File "/site/pipe_runtime/load/handler.py", line 50 in load
  File "/site/pipe_runtime/__main__.py", line 18 in <module>

Extension modules: msgpack._cmsgpack (total: 1)
"""


class TestStacks:
    def test_the_last_thread_without_our_own_calls(self) -> None:
        assert parse_stacks(DUMP, "/site/pipe_runtime") == [
            ["/code/index.py", 3, "<module>", ""],
            ["/code/lib.py", 9, "work", ""],
        ]

    def test_a_c_stack_is_no_thread(self) -> None:
        c_stack = """\
Current thread's C stack trace (most recent call first):
  Binary file "/usr/bin/python3.14", at _Py_DumpStack+0x4b [0x55d0c8]
  <truncated rest of calls>
"""
        with_names = DUMP.replace("0x00007f2 (", "0x00007f2 [python] (") + c_stack
        assert parse_stacks(with_names, "/site/pipe_runtime") == parse_stacks(DUMP, "/site/pipe_runtime")

    def test_our_folder_is_not_every_folder_that_starts_like_it(self) -> None:
        assert parse_stacks(DUMP, "/code/ind")[0][0] == "/site/pipe_runtime/__main__.py"
        dump = DUMP.replace("/code/", "/site/pipe_runtime_demo/")
        assert len(parse_stacks(dump, "/site/pipe_runtime")) == 2

    def test_our_own_calls_below_the_functions_stay(self) -> None:
        """Check that the stack has no holes if the runtime calls back into the function, for example while it logs."""
        dump = DUMP.replace("/code/lib.py", "/site/pipe_runtime/log/logs.py")
        assert [call[0] for call in parse_stacks(dump, "/site/pipe_runtime")] == [
            "/code/index.py",
            "/site/pipe_runtime/log/logs.py",
        ]

    def test_what_calls_the_function_on_an_event_loop_is_cut(self) -> None:
        loop = '  File "/lib/asyncio/base_events.py", line 607 in run_forever\n'
        ours = '  File "/site/pipe_runtime/serve/tasks.py", line 171 in serve\n'
        function = '  File "/code/index.py", line 3 in handler\n'
        head = "Current thread 0x1 (most recent call first):\n"
        found = parse_stacks(head + function + ours + loop + ours, "/site/pipe_runtime")
        assert found == [["/code/index.py", 3, "handler", ""]]
        assert parse_stacks(head + loop + ours, "/site/pipe_runtime") == []

    def test_threads_that_serve_requests_stand_in_for_the_main_one(self) -> None:
        def thread(*calls: str) -> str:
            bottom = '  File "/lib/threading.py", line 1 in _bootstrap\n'
            lines = "".join(f'  File "{call}", line 1 in f\n' for call in calls)
            return "Thread 0x1 (most recent call first):\n" + lines + bottom + "\n"

        server, main = "/site/pipe_runtime/serve/threads.py", thread("/site/pipe_runtime/serve/loop.py")
        one = thread("/code/one.py", server) + thread(server) + thread("/code/its_own.py")
        assert parse_stacks(one + main, "/site/pipe_runtime") == [["/code/one.py", 1, "f", ""]]
        two = parse_stacks(one + thread("/code/two.py", server) + main, "/site/pipe_runtime")
        assert [call[0] or call[2] for call in two] == [
            "thread 1 of 2, of which one serves this request:",
            "/code/one.py",
            "thread 2 of 2, of which one serves this request:",
            "/code/two.py",
        ]

    def test_as_faulthandler_writes_it(self) -> None:
        """Check a real dump of this thread while another thread waits."""
        reader, writer = os.pipe()
        begun, over = threading.Event(), threading.Event()

        def elsewhere() -> None:
            begun.set()
            over.wait()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        try:
            begun.wait()

            def here() -> None:
                faulthandler.dump_traceback(writer, all_threads=True)

            here()
        finally:
            over.set()
            thread.join()
            os.close(writer)
            with os.fdopen(reader, "rb") as file:
                text = file.read().decode()
        last = parse_stacks(text, "/nowhere")[-2:]
        assert [(call[0], call[2]) for call in last] == [
            (__file__, "test_as_faulthandler_writes_it"),
            (__file__, "here"),
        ]
        assert all(isinstance(call[1], int) and call[3] == "" for call in last)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            '  File "/a.py", line 1 in f\n',
            "Current thread 0x1 (most recent call first):\n  <no Python frame>\n",
            "Stack (most recent call first):\n  ...\n",
        ],
    )
    def test_no_stack(self, text: str) -> None:
        assert parse_stacks(text, "/site") == []

    @pytest.mark.parametrize(
        ("line", "call"),
        [
            ('  File "a", line 3 in f', ["a", 3, "f", ""]),
            ('  File "a", line 1 in x", line 2 in f', ['a", line 1 in x', 2, "f", ""]),
            ('  File "a", line 3 in f in g', ["a", 3, "f in g", ""]),
            ('  File "a", line 999999999 in f', ["a", 999999999, "f", ""]),
            ('  File "a", line 3', ["a", 3, "", ""]),
            ('  File "a", line ??? in f', None),
            ('  File "a", line -1 in f', None),
            ('  File "a", line ² in f', None),
            ('  File "a" in f', None),
            ('  File "a", line ' + "9" * 5000 + " in f", None),
            ("  File ???, line 3 in f", None),
            (' File "a", line 3 in f', None),
        ],
    )
    def test_a_line(self, line: str, call: list[object] | None) -> None:
        found = parse_stacks(f"Stack (most recent call first):\n{line}\n", "/site")
        assert found == ([] if call is None else [call])

    PARTS = st.sampled_from(
        ['  File "', '", line ', " in ", "7", "\n", "(most recent call first):", "x", "\x00", "\x85"]
    )

    @given(text=st.lists(PARTS, max_size=40).map("".join) | st.text())
    def test_hostile_text_gives_calls_or_nothing(self, text: str) -> None:
        for file, line, function, code in parse_stacks(text, "/site"):
            assert isinstance(file, str) and type(line) is int and isinstance(function, str) and code == ""


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (WorkerEnd(), "the runtime has not said that it can write one"),
        (WorkerEnd(asked=True), "the worker did not write one; it blocks signals, or sits in the kernel"),
        (WorkerEnd(asked=True, death=Death(1, SIGSEGV, 0)), "the worker ended before it wrote one"),
        (
            WorkerEnd(asked=True, death=Death(1, SIGKILL, 0), sent={SIGTERM, SIGKILL}),
            "the worker did not write one; it blocks signals, or sits in the kernel",
        ),
        (WorkerEnd(asked=True, dump=bytearray(b"Fatal Python error")), "the interpreter crashed while it wrote one"),
        (WorkerEnd(asked=True, dump=bytearray(b"  File x\n")), "the worker was not in the function's code"),
        (
            WorkerEnd(asked=True, stage=BEFORE_FORK, dump=bytearray(b'  File "template.py", line 1 in _wait_for\n')),
            "the template was forking the worker; a fork hook of the function's (os.register_at_fork) may hang",
        ),
    ],
)
def test_a_start_that_is_late_without_a_stack_says_why(end: WorkerEnd, why: str) -> None:
    error, _ = answer(Function([], {}, {}, Settings()), Request("id", b"", "", "", 1.0), Cause.START_TIMED_OUT, end)
    assert error["stack"] == [["", 0, f"no stack: {why}", ""]]
