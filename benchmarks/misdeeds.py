"""Make random events for tests/functions/fuzz, and judge their outcomes.

This module knows the outcomes that docs/ allows for each event. It knows nothing of processes, pipes and time.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outcomes import Failure, exit_code, worst

ACTS = {
    "say": 6.0,
    "say_without_end": 2.0,
    "say_strange": 2.0,
    "say_much": 0.5,
    "say_one_long_line": 0.3,
    "write_below": 2.0,
    "log": 3.0,
    "run_program": 1.0,
    "fork_and_wait": 2.0,
    "fork_zombie": 1.0,
    "fork_and_print": 1.0,
    "fork_and_linger": 1.0,
    "daemonise": 1.0,
    "fork_and_return": 2.0,
    "start_thread": 1.0,
    "handle_signal": 1.0,
    "ignore_children": 1.0,
    "ignore_term": 1.0,
    "block_signals": 1.0,
    "stop_collecting": 1.0,
    "leave_folder": 1.0,
    "clear_environment": 1.0,
    "close_standard": 0.5,
    "close_stdout": 0.5,
    "lose_stdout": 0.5,
    "make_nonblocking": 1.0,
    "open_files": 1.0,
    "trace": 1.0,
    "register_exit": 1.0,
    "pause": 1.0,
}
"""Acts that must not change an outcome, and how often an event performs each."""

DELAYED = {"set_alarm": "signal: alarm clock", "end_later": "exit status 99"}
"""Acts that end the worker some milliseconds later, during this or another event: {act: the error's description}."""

DELAYED_WEIGHT = 0.15

ANSWERED = {
    "fail": ("ValueError", "event {n}"),
    "fail_from": ("ValueError", "event {n}"),
    "fail_long": ("ValueError", "event {n}z"),
    "fail_unprintable": ("Unprintable", ""),
    "recurse": ("RecursionError", "maximum recursion depth exceeded"),
    "exhaust": ("MemoryError", "event {n}"),
    "leave": ("SystemExit", ""),
    "interrupt": ("KeyboardInterrupt", ""),
}
"""Endings in which the function fails with its own error: {ending: (error type, beginning of the message)}."""

FATAL = {
    "exit_at_once": "exit status {code}",
    "segfault": "signal: segmentation fault",
    "abort": "signal: aborted",
    "kill": "signal: killed",
    "kill_group": "signal: killed",
    "become_another": "exit status 5",
}
"""Endings that end the worker, and the description of that end in the error."""

TOO_LATE = ("stop", "hang", "hang_below", "answer_late")
"""Endings in which the event reaches its time limit."""

VIOLATIONS = ("close_everything", "write_garbage", "write_half_a_frame", "write_endless_frame", "forge", "forge_many")
"""Endings that break the protocol. Each may end the run with exit code 4."""

FORGERS = ("forge", "forge_many")

ENDINGS = {
    "finish": 60.0,
    **dict.fromkeys(ANSWERED, 2.0),
    **dict.fromkeys(FATAL, 0.7),
    **dict.fromkeys(TOO_LATE, 0.3),
    **dict.fromkeys(VIOLATIONS, 0.25),
}
"""{the way in which an event ends: how often an event ends like this, as a weight}."""

RESULTS = {"small": 20.0, "large": 1.0, "deep": 1.0, "not JSON": 1.0, "circular": 0.5}
"""The results that an event may return, and how often it returns each."""

MARSHAL_ERRORS = ("not JSON", "circular")

MOST_ACTS = 4
MOST_ITEMS = 3

QUEUED = 64
"""The most events that a worker with one thread may have. An event that forges answers may answer all of them."""

TIMEOUT = 2.0
"""The time limit of an event in seconds. It is enough for a normal event on a busy machine, but short, because events
that hang take all of it."""

LATE = TIMEOUT + 0.05
"""The seconds after which a late event answers. Its time limit is over by then."""

STAGES = (
    " while it was loading the handler",
    " before it had forked the worker",
    " after it was forked and before it was ready",
)
"""The endings of an error's message after a failed start. They follow the description of the process's end."""


@dataclass(frozen=True)
class Mode:
    """One way to run the function.

    Attributes:
        handler: The handler in index.py.
        streams: Whether the handler's result is an array of items.
    """

    name: str
    handler: str
    options: tuple[str, ...]
    concurrency: int = 1
    isolated: bool = False
    is_http: bool = False

    @property
    def streams(self) -> bool:
        """Return whether the handler's result is an array of items."""
        return self.handler.endswith("stream")


@dataclass(frozen=True)
class Planned:
    """One event.

    Attributes:
        number: The event's place in the plan.
        acts: The acts that the handler performs before the ending; names in tests/functions/fuzz.
        end: The ending of the handler; a name in tests/functions/fuzz.
        result: The result that the handler returns; a name in tests/functions/fuzz.
        items: The number of items that the handler sends before the acts.
    """

    number: int
    acts: tuple[str, ...]
    end: str
    result: str
    items: int

    @property
    def event(self) -> bytes:
        """Return the event as JSON."""
        return json.dumps(
            {
                "n": self.number,
                "acts": self.acts,
                "end": self.end,
                "result": self.result,
                "items": self.items,
                "late": LATE,
            }
        ).encode()


class Plan:
    """A sequence of events that depends only on a seed."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._number = 0

    def next(self) -> Planned:
        """Return the next event."""
        chance = self._chance
        weights = {**ACTS, **dict.fromkeys(DELAYED, DELAYED_WEIGHT)}
        acts = chance.choices(list(weights), list(weights.values()), k=chance.randrange(MOST_ACTS + 1))
        (end,) = chance.choices(list(ENDINGS), list(ENDINGS.values()))
        (result,) = chance.choices(list(RESULTS), list(RESULTS.values()))
        planned = Planned(self._number, tuple(acts), end, result, chance.randrange(MOST_ITEMS + 1))
        self._number += 1
        return planned

    def acts_of_loading(self) -> list[str]:
        """Return the acts that the module performs while Python loads it."""
        return self._chance.choices(list(ACTS), list(ACTS.values()), k=self._chance.randrange(MOST_ACTS))


@dataclass
class Judge:
    """Compare the output lines of one run with its events.

    Attributes:
        waiting: The events without an output line, in order, by their index in the run.
        tally: The number of outcomes of each type.
        codes: The exit codes of the events.
    """

    mode: Mode
    unordered: bool = False
    waiting: dict[int, Planned] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)
    codes: set[int] = field(default_factory=set)
    lines: int = 0
    _announced: int = 0
    _ids: set[str] = field(default_factory=set)
    _may_crash: int = 0
    _may_expire: int = 0
    _may_break: int = 0
    _may_be_forged: int = 0
    _reasons: set[str] = field(default_factory=set)

    def announce(self, planned: Planned) -> None:
        """Expect an outcome for one more event, and count the harm that it may do to other events in its worker."""
        self.waiting[self._announced] = planned
        self._announced += 1
        others = self.mode.concurrency - 1
        for act in set(planned.acts) & set(DELAYED):
            self._reasons.add(DELAYED[act])
            self._may_crash += 2 * self.mode.concurrency
        if planned.end in FATAL:
            self._reasons.add(fatal(planned))
            self._may_crash += 2 * self.mode.concurrency if others else 0
        if planned.end in TOO_LATE:
            self._reasons.add("signal: killed")
            self._reasons.add("signal: terminated")
            self._may_crash += 2 * self.mode.concurrency if others else 0
            self._may_expire += others
        if planned.end in VIOLATIONS:
            self._reasons |= {"exit status 0", "exit status 1", "exit status 4", "signal: killed", "signal: terminated"}
            self._may_crash += 2 * self.mode.concurrency if others else 0
            self._may_expire += others
            self._may_break += 0 if self.mode.isolated else QUEUED + self.mode.concurrency
        if planned.end in FORGERS and not self.mode.isolated:
            self._may_be_forged += QUEUED + self.mode.concurrency

    @property
    def ended_early(self) -> bool:
        """Return whether an outcome has ended the run."""
        return 4 in self.codes

    @property
    def due_code(self) -> int:
        """Return the exit code that the run must have."""
        return 4 if self.ended_early else worst(self.codes - {0})

    def take(self, line: bytes) -> None:
        """Judge one output line.

        Raises:
            Failure: The line is not one JSON value, or its event cannot have this outcome.
        """
        index = self.lines
        try:
            value = json.loads(line)
        except ValueError:
            raise Failure(f"line {index} is not JSON: {line[:300]!r}") from None
        if self.unordered:
            if not isinstance(value, dict) or set(value) not in ({"index", "result"}, {"index", "error"}):
                raise Failure(f"line {index} does not say which event it belongs to: {line[:300]!r}")
            index = value["index"]
            is_error = "error" in value
            value = value["error"] if is_error else value["result"]
        else:
            is_error = isinstance(value, dict) and "errorType" in value
        planned = self.waiting.pop(index, None)
        if planned is None:
            raise Failure(f"a second line for event {index}, or a line for no event: {line[:300]!r}")
        self.lines += 1
        why = self._judge_error(planned, value) if is_error else self._judge_result(planned, value)
        if why:
            raise Failure(f"{why}: {planned} got {line[:600]!r}")

    def judge_error(self, planned: Planned, error: Mapping[str, Any]) -> str:
        """Return what is wrong with the error of a single run, or "" if nothing is."""
        return self._judge_error(planned, error)

    def _judge_result(self, planned: Planned, value: Any) -> str:
        self.tally["result"] += 1
        self.codes.add(0)
        if is_forged(value):
            if planned.end in FORGERS:
                return ""
            self._may_be_forged -= 1
            return "" if self._may_be_forged >= 0 else "another event's answer"
        if planned.end not in ("finish", *VIOLATIONS):
            return "a result where none can be"
        if planned.result in MARSHAL_ERRORS:
            return "a result that cannot be encoded"
        if self.mode.is_http:
            if not isinstance(value, dict) or value.get("statusCode") != 200:
                return "no HTTP answer of its own"
            value = json.loads(value["body"])
        last = value
        if self.mode.streams:
            expected = [{"n": planned.number, "item": number} for number in range(planned.items + 1)]
            if not isinstance(value, list) or value[:-1] != expected:
                return "not its own items"
            last = value[-1]
        if not isinstance(last, dict) or last.get("n") != planned.number:
            return "not its own result"
        return self._own_id(last.get("id"))

    def _judge_error(self, planned: Planned, error: Mapping[str, Any]) -> str:
        kind, message = str(error.get("errorType")), str(error.get("errorMessage"))
        self.tally[kind] += 1
        why = self._own_id(error.get("requestId"))
        if why:
            return why
        end = planned.end
        if kind == "Runtime.ProtocolError":
            self.codes.add(4)
            if end in VIOLATIONS:
                return ""
            self._may_break -= 1
            return "" if self._may_break >= 0 else "a protocol error that nothing explains"
        if kind == "Runtime.Stopped":
            return "" if self.ended_early else "an event that was stopped"
        if kind == "Sandbox.Timedout":
            self.codes.add(124)
            if end in TOO_LATE or end in VIOLATIONS:
                return ""
            self._may_expire -= 1
            return "" if self._may_expire >= 0 else "a timeout that nothing explains"
        if kind == "Runtime.ExitError":
            how = message.partition("Runtime exited with error: ")[2]
            for stage in STAGES:
                how = how.partition(stage)[0]
            if not how:
                return "an error that nothing explains"
            self.codes.add(exit_code(how))
            if (end in FATAL and how == fatal(planned)) or end in VIOLATIONS:
                return ""
            self._may_crash -= 1
            return "" if self._may_crash >= 0 and how in self._reasons else "a death that nothing explains"
        self.codes.add(1)
        if (
            kind in (("TypeError", "ValueError") if self.mode.is_http else ("Runtime.MarshalError",))
            and end not in ANSWERED
        ):
            return "" if planned.result in MARSHAL_ERRORS and end in ("finish", *VIOLATIONS) else "not its own error"
        wanted, text = ANSWERED.get(end, ("", ""))
        if kind != wanted or not message.startswith(text.format(n=planned.number)):
            return "not its own error"
        return ""

    def _own_id(self, id: object) -> str:
        if not isinstance(id, str) or not id or id in self._ids:
            return "not its own request id"
        self._ids.add(id)
        return ""


def fatal(planned: Planned) -> str:
    """Return how an error describes the end of this event's worker."""
    return FATAL[planned.end].format(code=planned.number % 256)


def is_forged(value: Any) -> bool:
    """Return whether a result, or the body of an HTTP answer, is marked as forged."""
    body = value.get("body") if isinstance(value, dict) else None
    return value == {"forged": True} or (isinstance(body, str) and body.strip() == '{"forged": true}')


def single_codes(planned: Planned) -> set[int]:
    """Return the exit codes that a run with this single event can have."""
    codes = {exit_code(DELAYED[act]) for act in set(planned.acts) & set(DELAYED)}
    if planned.end in FATAL:
        return codes | {exit_code(fatal(planned))}
    if planned.end in TOO_LATE:
        return codes | {124}
    if planned.end in VIOLATIONS:
        return {0, 1, 4, 124, 137, 143}
    return codes | {int(planned.end in ANSWERED or planned.result in MARSHAL_ERRORS)}
