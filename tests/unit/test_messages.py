"""Tests of kinds and their metadata: their numbers, types, and which fields are required or allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_runtime.wire import messages
from pipe_runtime.wire.errors import ProtocolError
from pipe_runtime.wire.frames import MAX_DEPTH, MAX_ITEMS
from pipe_runtime.wire.messages import FIELDS, NAMES, REQUIRED, check

EXAMPLES: dict[type, Any] = {int: 1, str: "x", bool: True, list: [], dict: {}}
WRONG: dict[type, list[Any]] = {
    int: [-1, True, 1.0, "1", None, [], {}, b"1"],
    str: [1, None, b"x", [], {}, True],
    list: [{}, "x", None, 0, ()],
    dict: [[], "x", None, 0],
    bool: [0, 1, "x", None],
}
ROWS = [(kind, key) for kind, fields in FIELDS.items() for key in fields]


def name(value: object) -> str:
    """Return a kind's name as the id of a test, and any other value as text."""
    return NAMES.get(value, "") if type(value) is int else str(value)


def least(kind: int) -> dict[str, Any]:
    """Return the smallest metadata that a kind may have."""
    return {key: EXAMPLES[FIELDS[kind][key]] for key in REQUIRED.get(kind, ())}


def test_numbers_are_given_once_and_for_ever() -> None:
    assert NAMES == {
        1: "HELLO",
        2: "READY",
        3: "INVOKE",
        4: "RESULT",
        5: "ERROR",
        6: "LOG",
        7: "CHUNK",
        8: "END",
        9: "CREDIT",
        10: "CANCEL",
        11: "DUMP",
        12: "STOP",
    }
    assert all(getattr(messages, text) == number for number, text in NAMES.items())
    assert messages.VERSION == 1


def test_tables_fit_together() -> None:
    assert set(NAMES) == set(FIELDS)
    for kind, keys in REQUIRED.items():
        assert set(keys) <= set(FIELDS[kind])
    assert {wanted for fields in FIELDS.values() for wanted in fields.values()} <= set(EXAMPLES)


@pytest.mark.parametrize("kind", FIELDS, ids=name)
def test_least_and_whole_metadata_pass(kind: int) -> None:
    check(kind, least(kind))
    check(kind, {key: EXAMPLES[wanted] for key, wanted in FIELDS[kind].items()})


@pytest.mark.parametrize(("kind", "key"), ROWS, ids=name)
def test_field_of_another_type_is_refused(kind: int, key: str) -> None:
    for value in WRONG[FIELDS[kind][key]]:
        with pytest.raises(ProtocolError, match=f"{NAMES[kind]} whose {key} is not a"):
            check(kind, {**least(kind), key: value})


@pytest.mark.parametrize(("kind", "key"), [(k, key) for k, keys in REQUIRED.items() for key in keys], ids=name)
def test_required_field_is_required(kind: int, key: str) -> None:
    metadata = least(kind)
    del metadata[key]
    with pytest.raises(ProtocolError, match=f"{NAMES[kind]} without {key}"):
        check(kind, metadata)


@pytest.mark.parametrize("kind", [0, 13, 255, 2**64 - 1])
def test_unknown_kinds_are_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"kind {kind}, which version 1 does not allow"):
        check(kind, {})


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(sorted(FIELDS)), st.dictionaries(st.text(), plain, max_size=5))
def test_unknown_keys_pass(kind: int, more: dict[str, Any]) -> None:
    unknown = {key: value for key, value in more.items() if key not in FIELDS[kind]}
    check(kind, {**unknown, **least(kind)})


@given(st.sampled_from(sorted(FIELDS)), st.dictionaries(st.sampled_from([key for _, key in ROWS]), plain))
def test_any_values_pass_or_are_a_protocol_error(kind: int, metadata: dict[str, Any]) -> None:
    try:
        check(kind, metadata)
    except ProtocolError:
        return
    for key, wanted in FIELDS[kind].items():
        assert key not in metadata or type(metadata[key]) is wanted


def nested(levels: int) -> Any:
    """Return this many arrays inside one another."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("kind", FIELDS, ids=name)
def test_depth_at_the_limit(kind: int) -> None:
    check(kind, {**least(kind), "unknown": nested(MAX_DEPTH - 2)})
    with pytest.raises(ProtocolError, match="more than 64 arrays and maps inside one another"):
        check(kind, {**least(kind), "unknown": nested(MAX_DEPTH - 1)})


def test_depth_counts_in_known_fields_and_in_maps() -> None:
    check(messages.DUMP, {"stacks": nested(MAX_DEPTH - 2)})
    invoke = least(messages.INVOKE)
    for metadata in ({"client_context": {"a": nested(MAX_DEPTH - 2)}}, {"identity": {"a": nested(5000)}}):
        with pytest.raises(ProtocolError, match="more than 64"):
            check(messages.INVOKE, {**invoke, **metadata})


def test_items_at_the_limit() -> None:
    check(messages.DUMP, {"stacks": [0] * MAX_ITEMS})
    with pytest.raises(ProtocolError, match="an array of 1025 items"):
        check(messages.DUMP, {"stacks": [0] * (MAX_ITEMS + 1)})


@pytest.mark.parametrize("value", [{1: 2}, {"a": {None: 1}}, {"a": [object()]}, {b"a": 1}])
def test_what_msgpack_could_say_but_no_head_may(value: Any) -> None:
    with pytest.raises(ProtocolError, match="a head with a"):
        check(messages.INVOKE, {**least(messages.INVOKE), "client_context": value})


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_key_that_is_not_a_string(key: Any) -> None:
    with pytest.raises(ProtocolError, match="a map key that is not a string"):
        check(messages.STOP, {key: 1})
