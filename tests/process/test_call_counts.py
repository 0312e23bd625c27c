"""Tests of how many Python functions the runtime calls for a plain request, counted in a real worker.

The count is the same on every machine. So these tests fail if new code adds calls to each request. No measured time
would show that reliably.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from pipe_init.model import Request
from pipe_init.workers import launch
from pipe_testing.supervision import Driver, supervised

pytestmark = pytest.mark.unmeasured  # coverage imports `signal` into the worker, which then has more to check

MOST = 20
"""The most calls for each request on the runtime's side.

The requests are plain: an event and a result in JSON, one at a time in a worker, and nothing printed. If several
requests are sent, the runtime may get several with one read, and then needs a call less for each.
"""

WARM_UP, REQUESTS = 50, 200
EVENT = b'{"name": "Ada", "number": 17, "list": [1, 2, {"a": null}]}'

# Count the calls from the end of one call of the handler to the beginning of the next one. In this time, the runtime
# sends one answer and receives one request. Leave out the calls in wire/spin.py, because their number depends on how
# busy the machine is. Leave out msgpack's calls, which exist only if it has no C code. The counting itself must not
# make the memory grow, because the runtime looks for a new peak of memory after each page fault.
COUNTING = """
import sys
number, each, names = 0, [0] * 250, {}

def count(frame, event, argument):
    if event == "call":
        name = frame.f_globals["__name__"], frame.f_code.co_name
        if not name[0].startswith((__name__, "pipe_runtime.wire.spin", "msgpack.")):
            each[number] += 1
            names[name] = names.get(name, 0) + 1

def handler(event, context):
    global number
    sys.setprofile(None)
    if event == "tell":
        return {"each": each, "names": [(*name, times) for name, times in names.items()]}
    number += 1
    if number < len(each):
        sys.setprofile(count)
    return event
"""


def serve(driver: Driver, at_once: int) -> tuple[list[int], str]:
    """Send all requests, with `at_once` of them sent and not answered at a time.

    Returns:
        The number of calls for each request after the warm-up, and a list of the functions as text, for a failed test.
    """
    total = WARM_UP + REQUESTS
    for sent in range(total + at_once):
        if sent < total:
            driver.submit(EVENT)
        if sent >= at_once:
            [outcome] = driver.outcomes()
            assert outcome.problem is None and json.loads(outcome.payload) == json.loads(EVENT)
    driver.submit(b'"tell"')
    [outcome] = driver.outcomes()
    found = json.loads(outcome.payload)
    assert len(found["each"]) == total
    names = sorted(found["names"], key=lambda name: -name[2])
    return found["each"][WARM_UP:], "".join(f"\n{times / total:6.2f} {module}.{name}" for module, name, times in names)


@pytest.mark.parametrize("at_once", [1, 8])
def test_the_runtimes_calls_for_a_plain_request(tmp_path: Path, at_once: int) -> None:
    (tmp_path / "index.py").write_text(COUNTING)
    hello = {"handler": "index.handler", "code_dir": str(tmp_path), "platform": "lambda"}
    command = launch.runtime_command(sys.executable)
    with supervised(tmp_path / "log", command, hello=hello, window_requests=at_once) as driver:
        calls, names = serve(driver, at_once)
    assert 0 < statistics.median(calls) <= MOST, f"calls for each request, {calls}:{names}"


MOST_OF_THE_INIT = 20
"""The most calls in the init for a request, from `submit` to the outcome, without the caller's call of Request()."""


def test_the_inits_calls_for_a_plain_request(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    return event\n")
    hello = {"handler": "index.handler", "code_dir": str(tmp_path), "platform": "lambda"}
    each: list[int] = []
    names: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        # The __init__ that records.py compiles has globals without a __name__.
        name = (frame.f_globals.get("__name__", "pipe_init.kernel.plain_classes"), frame.f_code.co_name)
        if event == "call" and name[0].startswith(("pipe_init.", "pipe_runtime.wire.")) and "spin" not in name[0]:
            each[-1] += 1
            names[name] += 1

    with supervised(tmp_path / "log", launch.runtime_command(sys.executable), hello=hello) as driver:
        supervisor = driver.supervisor
        for number in range(WARM_UP + REQUESTS):
            request = Request(f"r{number}", EVENT, "application/json", "application/json", 60.0)
            each.append(0)
            sys.setprofile(count)
            supervisor.submit(request)
            while not supervisor.outcomes:
                supervisor.step()
            sys.setprofile(None)
            assert json.loads(supervisor.outcomes.popleft().payload) == json.loads(EVENT)
    shown = "".join(f"\n{times / len(each):6.2f} {'.'.join(name)}" for name, times in names.most_common())
    assert 0 < statistics.median(each[WARM_UP:]) <= MOST_OF_THE_INIT, f"calls for each request, {each}:{shown}"
