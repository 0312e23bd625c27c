"""What a runtime answers to DUMP, as far as the init believes it, since anything may have sent it."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.actions import Cause
from pipe_init.answers import Facts, answer, stacks_by_request
from pipe_init.policy import Settings
from pipe_init.reaper import Death
from pipe_init.request import Function, Request

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


@pytest.mark.parametrize(
    "status, error_type, exit_code",
    [
        (signal.SIGTERM, "Runtime.ProtocolError", 4),
        (3 << 8, "Runtime.ProtocolError", 4),
        (signal.SIGKILL, "Runtime.ExitError", 137),
    ],
)
def test_who_closed_the_stream_was_killed_by_somebody_else(status: int, error_type: str, exit_code: int) -> None:
    facts = Facts(death=Death(1, status, 0), forced=True, closed=True, sent={signal.SIGTERM})
    function = Function([], {}, {}, Settings())
    error, code = answer(function, Request("id", b"", "", "", 1.0), Cause.DIED, facts)
    assert (error["error_type"], code) == (error_type, exit_code)
