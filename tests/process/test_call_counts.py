"""Tests of how many Python functions the runtime calls for a plain request, counted in a real worker.

The count is the same on every machine. So these tests fail if new code adds calls to each request. No measured time
would show that reliably.
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
"""{number of requests that are sent and not answered: the most calls for each request}.

The requests are plain: an event and a result in JSON, one at a time in a worker, and nothing printed. If several
requests are sent, the runtime gets several with one read.
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


@pytest.mark.parametrize("at_once", MOST)
def test_the_runtimes_calls_for_a_plain_request(tmp_path: Path, at_once: int) -> None:
    (tmp_path / "index.py").write_text(COUNTING)
    hello = {"handler": "index.handler", "code_dir": str(tmp_path), "platform": "lambda"}
    command = launch.runtime_command(sys.executable)
    with supervised(tmp_path / "log", command, hello=hello, window_requests=at_once) as driver:
        calls, names = serve(driver, at_once)
    assert 0 < statistics.median(calls) <= MOST[at_once], f"calls for each request, {calls}:{names}"
