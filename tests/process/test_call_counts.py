"""How many calls of Python functions a plain request costs, counted in the real thing.

The count is the same on every machine. So a detour on the way of each request fails here, where no measured time would
show it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest

from pipe_init.workers import launch
from pipe_testing.supervision import Driver, supervised

MOST = {1: 23, 8: 22}
"""The most calls for a plain request: JSON in, JSON out, in a worker that serves one at a time, and nothing printed.

The keys are how many requests are under way. If there are several, one read brings several of them.
"""

WARM_UP, REQUESTS = 50, 200
EVENT = b'{"name": "Ada", "number": 17, "list": [1, 2, {"a": null}]}'

# The calls from the end of one call of the handler to the begin of the next one: one answer out, one request in. How
# long to wait is decided by wire/spin.py, the more often the busier the machine is. So its calls do not count, nor do
# those of msgpack where it has no part in C. The counting itself must not let the memory grow, because the runtime
# looks for a new peak after each page fault.
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
    """Send the requests, of which so many are under way at once.

    Returns:
        The number of calls of each request after the first ones, and what to show if there are too many.
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


@pytest.mark.parametrize("at_once", MOST)
def test_the_runtimes_calls_for_a_plain_request(tmp_path: Path, at_once: int) -> None:
    (tmp_path / "index.py").write_text(COUNTING)
    hello = {"handler": "index.handler", "code_dir": str(tmp_path), "platform": "lambda"}
    command = launch.runtime_command(sys.executable)
    with supervised(tmp_path / "log", command, hello=hello, window_requests=at_once) as driver:
        calls, names = serve(driver, at_once)
    assert 0 < statistics.median(calls) <= MOST[at_once], f"calls for each request, {calls}:{names}"
