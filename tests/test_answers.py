"""What a runtime answers to DUMP, as far as the init believes it, since anything may have sent it; deaths of memory."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.answers import MEMORY_SHARE, killed_for_memory, stacks_by_request

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


class TestMemory:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
    def test_who_dies_at_its_limit_dies_of_it(self, number: int) -> None:
        limit = 1000
        assert killed_for_memory(number, int(limit * MEMORY_SHARE), limit)
        assert not killed_for_memory(number, int(limit * MEMORY_SHARE) - 1, limit)

    @pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU])
    def test_other_deaths_are_not_of_memory(self, number: int) -> None:
        assert not killed_for_memory(number, 2000, 1000)
