"""Tests of the fuzzer's judge: it accepts right outcomes and finds wrong ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import fuzz
    import misdeeds
    from outcomes import Failure
finally:
    sys.path.remove(str(BENCHMARKS))


def planned(number: int = 0, end: str = "finish", result: str = "small", items: int = 1) -> misdeeds.Planned:
    return misdeeds.Planned(number, (), end, result, items)


def judge(*events: misdeeds.Planned, mode: misdeeds.Mode = fuzz.MODES[0], unordered: bool = False) -> misdeeds.Judge:
    judge = misdeeds.Judge(mode, unordered)
    for event in events:
        judge.announce(event)
    return judge


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def error(kind: str, message: str = "", id: str = "a") -> dict[str, Any]:
    return {"errorType": kind, "errorMessage": message, "stackTrace": [], "requestId": id}


EXIT = "RequestId: a Error: Runtime exited with error: "
STREAM = fuzz.MODES[1]
ISOLATED = next(mode for mode in fuzz.MODES if mode.isolated)
THREADS = next(mode for mode in fuzz.MODES if mode.concurrency > 1)


RIGHT: list[tuple[misdeeds.Judge, list[Any], int]] = [
    (judge(planned(0), planned(1)), [{"n": 0, "id": "a"}, {"n": 1, "id": "b"}], 0),
    (judge(planned(3), mode=STREAM), [[{"n": 3, "item": 0}, {"n": 3, "item": 1}, {"n": 3, "id": "a"}]], 0),
    (judge(planned(3, "fail")), [error("ValueError", "event 3")], 1),
    (judge(planned(3, "exit_at_once")), [error("Runtime.ExitError", EXIT + "exit status 3")], 1),
    (judge(planned(3, "kill")), [error("Runtime.ExitError", EXIT + "signal: killed")], 137),
    (judge(planned(3, "hang")), [error("Sandbox.Timedout")], 124),
    (judge(planned(3, "forge")), [{"forged": True}], 0),
    (judge(planned(3, "forge"), planned(4)), [error("Runtime.ProtocolError"), error("Runtime.Stopped", id="b")], 4),
    (judge(planned(0), planned(1), unordered=True), [{"index": 1, "result": {"n": 1, "id": "b"}}], 0),
    (judge(planned(0), planned(1, "kill"), mode=THREADS), [error("Runtime.ExitError", EXIT + "signal: killed")], 137),
]


@pytest.mark.parametrize(("judge", "lines", "code"), RIGHT)
def test_what_docs_allow_is_accepted(judge: misdeeds.Judge, lines: list[Any], code: int) -> None:
    for each in lines:
        judge.take(line(each))
    assert judge.due_code == code


WRONG: dict[str, Callable[[], tuple[misdeeds.Judge, list[Any]]]] = {
    "lines in the wrong order": lambda: (judge(planned(0), planned(1)), [{"n": 1, "id": "b"}]),
    "a line twice": lambda: (judge(planned(0)), [{"n": 0, "id": "a"}, {"n": 0, "id": "b"}]),
    "an index twice": lambda: (
        judge(planned(0), planned(1), unordered=True),
        [{"index": 0, "result": {"n": 0, "id": "a"}}, {"index": 0, "result": {"n": 0, "id": "b"}}],
    ),
    "another key": lambda: (judge(planned(0), unordered=True), [{"index": 0, "result": {"n": 0, "id": "a"}, "x": 1}]),
    "one id for two events": lambda: (judge(planned(0), planned(1)), [{"n": 0, "id": "a"}, {"n": 1, "id": "a"}]),
    "no id": lambda: (judge(planned(0)), [{"n": 0}]),
    "a child's answer": lambda: (judge(planned(0)), [None]),
    "an item less": lambda: (judge(planned(0), mode=STREAM), [[{"n": 0, "item": 0}, {"n": 0, "id": "a"}]]),
    "a result of what fails": lambda: (judge(planned(0, "fail")), [{"n": 0, "id": "a"}]),
    "a result that is none": lambda: (judge(planned(0, result="not JSON")), [{"n": 0, "id": "a"}]),
    "another event's error": lambda: (judge(planned(0, "fail")), [error("ValueError", "event 7")]),
    "another error": lambda: (judge(planned(0, "fail")), [error("TypeError", "event 0")]),
    "a death of an honest event": lambda: (judge(planned(0)), [error("Runtime.ExitError", EXIT + "signal: killed")]),
    "another death": lambda: (judge(planned(0, "kill")), [error("Runtime.ExitError", EXIT + "exit status 1")]),
    "a late honest event": lambda: (judge(planned(0)), [error("Sandbox.Timedout")]),
    "a violation without an attack": lambda: (judge(planned(0)), [error("Runtime.ProtocolError")]),
    "a stopped event": lambda: (judge(planned(0)), [error("Runtime.Stopped")]),
    "a forged answer without a forger": lambda: (judge(planned(0)), [{"forged": True}]),
    "a forged answer across processes": lambda: (
        judge(planned(0, "forge"), planned(1), mode=ISOLATED),
        [{"forged": True}, {"forged": True}],
    ),
    "no JSON": lambda: (judge(planned(0)), [b"{"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_docs_do_not_allow_is_a_failure(name: str) -> None:
    judge, lines = WRONG[name]()
    *accepted, last = (each if isinstance(each, bytes) else line(each) for each in lines)
    for each in accepted:
        judge.take(each)
    with pytest.raises(Failure):
        judge.take(last)


def test_a_seed_makes_the_same_events_again() -> None:
    first, again, other = (misdeeds.Plan(seed) for seed in ("1", "1", "2"))
    events = [first.next().event for _ in range(50)]
    assert events == [again.next().event for _ in range(50)]
    assert events != [other.next().event for _ in range(50)]
