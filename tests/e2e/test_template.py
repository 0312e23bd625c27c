"""Tests of a real template and its workers: what they share, whose children they are, and what ends with what."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import killing, reaper
from pipe_init.limits.confinement import FORKING
from pipe_init.workers import launch
from pipe_init.workers.template_socket import MOST_BORN, REPORT_ROUND, Forked, TemplateSocket
from pipe_init.workers.worker_source import TemplateBusy
from pipe_runtime.template.fork_server import BATCH
from pipe_runtime.wire.errors import ProtocolError
from pipe_runtime.wire.messages import DUMP as DUMP_FRAME
from pipe_runtime.wire.messages import ERROR
from pipe_testing import processes
from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.supervision import few_descriptors
from pipe_testing.templates import DUMP, TEMPLATE, Driven, Templates

ECHO = "def handler(event, context):\n    return event\n"
PID = "import os\ndef handler(event, context):\n    return os.getpid()\n"
STATE = """
import os, signal, sys, threading

def handler(event, context):
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name).partition(":")[0]
            descriptors[name] = target, os.get_inheritable(int(name)), os.get_blocking(int(name))
        except OSError:
            pass
    status = open("/proc/self/status").read().splitlines()
    main = sys.modules["__main__"]
    return {
        "descriptors": descriptors,
        "signals": [line for line in status if line.startswith("Sig") and not line.startswith("SigQ")],
        "argv": sys.argv,
        "path": sys.path,
        "main": sorted(vars(main)),
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
        "modules": sorted(sys.modules),
        "identity": [os.getpid() == os.getsid(0), os.getpid() == os.getpgrp()],
        "threads": threading.active_count(),
        "stdin": sys.stdin.read(),
    }
"""


def executed(folder: Path, source: str, event: object = None, **fields: Any) -> Any:
    """Return the answer of an executed worker."""
    (folder / "index.py").write_text(source)
    process = launch.start(launch.runtime_command(sys.executable), unmeasured())
    with Driven(folder, process) as worker:
        worker.start(**DUMP, **fields)
        return worker.call(event)


def test_a_worker_answers(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        ready = templates.start()
        assert ready.metadata["init_us"] > 0
        (worker,) = templates.fork()
        assert worker.call({"a": [1, 2]}) == {"a": [1, 2]}
        assert worker.stop() == 0
        assert templates.runtime.stop() == 0


def test_ten_workers_are_ten_processes_and_our_children(tmp_path: Path) -> None:
    with Templates(tmp_path, PID) as templates:
        templates.start()
        workers = templates.fork(10)
        pids = {worker.call() for worker in workers}
        assert pids == {worker.pid for worker in workers} and len(pids) == 10
        assert all(reaper.is_own_child(pid) for pid in pids)
        assert not reaper.is_own_child(1) or os.getppid() == 0


def test_each_is_reported_before_it_is_ours_and_again_then(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        templates.fork(3)
        for ticket in (1, 2, 3):
            first, second = [report for report in templates.reported if report.ticket == ticket]
            assert first == Forked(ticket, first.pid) and second == Forked(ticket, first.pid, ours=True)


def test_it_may_be_asked_before_it_is_ready(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.runtime.hello(**DUMP, **TEMPLATE)
        workers = templates.ask(2)
        for worker in workers:
            worker.hello(**DUMP)
            worker.invoke("early")
        templates.settle()
        templates.runtime.ready()
        for worker in workers:
            worker.ready()
            assert json.loads(worker.outcome(1).payload) == "early"


def test_a_handler_that_cannot_be_loaded(tmp_path: Path) -> None:
    with Templates(tmp_path, "import nothing_of_that_name\n") as templates:
        templates.runtime.hello(**DUMP, **TEMPLATE)
        templates.runtime.next()
        frame = templates.runtime.next()
        assert (frame.kind, frame.id) == (ERROR, 0)
        assert frame.metadata["error_type"] == "Runtime.ImportModuleError"
        assert templates.runtime.exit_code() == 1


def test_prints_while_it_is_loaded_are_the_templates_and_said_once(tmp_path: Path) -> None:
    source = "import sys\nprint('loading')\nprint('not ended', end='')\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        assert templates.runtime.logged() == ["loading", "not ended"]
        for worker in templates.fork(2):
            assert worker.lines == []
            worker.call()
            assert worker.lines == [] and worker.log == b""


def test_what_is_buffered_is_not_said_twice(tmp_path: Path) -> None:
    source = "import sys\nsys.stdout = open(2, 'w', closefd=False)\nprint('once')\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.fork()
        assert worker.stop() == 0
        assert worker.log == b""
        assert templates.runtime.stop() == 0
        assert templates.runtime.log == b"once\n"


def test_stop_dump_and_the_end_of_the_stream(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        templates.runtime.send(DUMP_FRAME)
        assert templates.runtime.next().kind == DUMP_FRAME
        templates.runtime.close_input()
        assert templates.runtime.exit_code() == 0


def test_the_end_of_the_socket_ends_it(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        templates.template.close()
        assert templates.runtime.exit_code() == 0


def test_it_serves_no_request(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        templates.runtime.invoke()
        frame = templates.runtime.next()
        assert (frame.kind, frame.id, frame.metadata["error_type"]) == (ERROR, 0, "Runtime.ProtocolError")
        assert templates.runtime.exit_code() == 4


def test_its_death_leaves_its_workers_alone(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        (worker,) = templates.fork()
        templates.runtime.process.kill()
        assert templates.runtime.process.wait() == -signal.SIGKILL
        assert select.select([templates.template.control], [], [], HANGS)[0]
        assert templates.template.reports() == [] and templates.template.ended
        assert worker.call("alive") == "alive"
        (late,) = templates.ask()
        assert templates.template.reports() == [] and late.pid == 0
        assert worker.stop() == 0


def test_a_killed_worker_is_ours_to_collect(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        first, second = templates.fork(2)
        killing.signal_group(first.pid, signal.SIGKILL)
        assert first.process.wait(HANGS) == -signal.SIGKILL
        assert not reaper.is_own_child(first.pid)
        assert second.call(1) == 1


def test_a_worker_whose_pipes_close_dies_and_no_other(tmp_path: Path) -> None:
    with Templates(tmp_path, "import time\ndef handler(event, context):\n    time.sleep(1000 * event)\n") as templates:
        templates.start()
        first, second = templates.fork(2)
        first.invoke(1)
        first.launched.close()
        assert first.process.wait(HANGS) == -signal.SIGKILL
        assert second.call(0) is None


def test_workers_and_template_die_with_the_init(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(ECHO)
    init = f"""
import os, sys
sys.path.insert(0, {str(Path(processes.__file__).parent.parent)!r})
from pathlib import Path
from pipe_testing import processes
from pipe_testing.templates import Templates
processes.become_subreaper()
templates = Templates(Path({str(tmp_path)!r}), {ECHO!r})
templates.start()
pids = [worker.pid for worker in templates.fork(3)]
print(templates.runtime.pid, *pids, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", init], capture_output=True, timeout=HANGS, env=unmeasured())
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 4, done.stderr
    ended = processes.wait_for_children()
    assert ended == dict.fromkeys(pids, -signal.SIGKILL)


@pytest.mark.unmeasured
def test_a_worker_is_as_an_executed_one(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"environment": {"GIVEN": "yes"}}
    wanted = executed(tmp_path, STATE, **fields)
    with Templates(tmp_path, STATE) as templates:
        templates.start(**fields)
        for worker in (*templates.fork(2, **fields), *templates.fork(1, rehearse=True, **fields)):
            found = worker.call()
            more = set(found.pop("modules")) - set(wanted["modules"])
            assert found == {key: value for key, value in wanted.items() if key != "modules"}
            ours = {
                f"pipe_runtime.{name}"
                for name in (
                    "call.conversions",
                    "call.unencodable",
                    "template",
                    "template.ahead",
                    "template.fork_server",
                    "template.process_state",
                    "wire.alive_pipe",
                )
            }
            assert more <= {*ours, "_socket", "errno", "gc"}


def test_the_environment_that_the_function_has_set_stays(tmp_path: Path) -> None:
    source = "import os\nos.environ['A'] = 'mine'\ndef handler(event, context):\n    return os.environ['A']\n"
    with Templates(tmp_path, source) as templates:
        templates.start(environment={"A": "given"})
        assert templates.fork(1, environment={"A": "given"})[0].call() == "mine"


def test_random_numbers_differ(tmp_path: Path) -> None:
    source = """
import random, sys, types
made = []
numpy = types.ModuleType("numpy")
module = types.ModuleType("numpy.random")
module.seed = lambda: made.append("seeded")
sys.modules["numpy.random"] = module
random.seed(1)
def handler(event, context):
    return [random.random(), made]
"""
    with Templates(tmp_path, source) as templates:
        templates.start()
        found = [worker.call() for worker in templates.fork(4)]
    assert len({number for number, _ in found}) == 4
    assert all(made == ["seeded"] for _, made in found)


HOOKS = """
from pipe_runtime import after_fork
import os
said = []
@after_fork
def first():
    said.append(["first", os.getpid()])
after_fork(lambda: said.append(["second", os.getpid()]))
def initialize(context):
    said.append(["initializer", os.getpid()])
    after_fork(lambda: said.append(["late", os.getpid()]))
def handler(event, context):
    return [[name for name, _ in said], {pid for _, pid in said} == {os.getpid()}]
"""


def test_a_hook_that_nobody_could_call(pipe_init: PipeInit, tmp_path: Path) -> None:
    for wrong in ("3", "later"):
        (tmp_path / "index.py").write_text(
            f"from pipe_runtime import after_fork\nasync def later(): pass\nafter_fork({wrong})\n"
        )
        done = pipe_init("run", "index.handler", "-q", cwd=tmp_path)
        error = json.loads(done.stderr.splitlines()[-1])
        assert (done.returncode, error["errorType"]) == (3, "TypeError")
        assert error["errorMessage"].startswith("after_fork takes a plain function of no parameters, not ")


def test_after_fork(tmp_path: Path) -> None:
    order = [["first", "second", "initializer", "late"], True]
    assert executed(tmp_path, HOOKS, initializer="index.initialize") == order
    with Templates(tmp_path, HOOKS) as templates:
        templates.start(initializer="index.initialize")
        for worker in templates.fork(2, initializer="index.initialize"):
            assert worker.call() == order


def test_a_hook_that_fails_is_a_fault_of_loading(tmp_path: Path) -> None:
    source = "from pipe_runtime import after_fork\n@after_fork\ndef hook():\n    raise ValueError('no')\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.ask()
        worker.hello(**DUMP)
        templates.settle()
        worker.next()
        frame = worker.next()
        assert (frame.kind, frame.id, frame.metadata["error_type"]) == (ERROR, 0, "ValueError")
        assert worker.exit_code() == 1


def test_threads_are_warned_of(tmp_path: Path) -> None:
    source = "import threading\nthreading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()\n"
    with Templates(tmp_path, source + ECHO) as templates:
        templates.start()
        (line,) = templates.runtime.logged()
        assert "1 thread (ticker)" in line and "pipe_runtime.after_fork" in line
        assert templates.fork()[0].call(1) == 1


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("async def handler(event, context):\n    return event\n", {}),
        (
            "import asyncio\nasync def handler(event):\n    await asyncio.sleep(0)\n    return event\n",
            {"concurrency": 4},
        ),
        (ECHO, {"concurrency": 4}),
        (
            "made = []\ndef start():\n    made.append(1)\ndef handler(e, c):\n    return made and e\n",
            {"initializer": "index.start", "pre_stop": "index.start"},
        ),
        ("def handler(event: list[int], context):\n    return event\n", {}),
    ],
    ids=["async", "tasks", "threads", "hooks", "typed"],
)
def test_every_kind_of_function(tmp_path: Path, source: str, fields: dict[str, Any]) -> None:
    with Templates(tmp_path, source) as templates:
        templates.start(**fields)
        for worker in templates.fork(2, **fields):
            assert [worker.call([n]) for n in range(3)] == [[0], [1], [2]]
            assert worker.stop() == 0


def test_wsgi(tmp_path: Path) -> None:
    source = """
def handler(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]
"""
    http = {"method": "GET", "path": "/x", "query": "", "headers": []}
    with Templates(tmp_path, source) as templates:
        templates.start(type="wsgi")
        (worker,) = templates.fork(1, type="wsgi")
        assert worker.outcome(worker.invoke(http=http)).payload == b"/x"


def test_children_of_a_worker(tmp_path: Path) -> None:
    source = """
import multiprocessing, os, subprocess, sys
def double(n):
    return 2 * n
def handler(event, context):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        doubled = pool.map(double, [1, 2, 3])
    out = subprocess.run([sys.executable, "-c", "print('child')"], stdout=subprocess.PIPE, text=True).stdout
    if os.fork() == 0:
        print("from a fork")
        return "twice"
    os.wait()
    return [doubled, out]
"""
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.fork()
        assert worker.call() == [[2, 4, 6], "child\n"]
        assert worker.stop() == 0
        assert worker.log == b"from a fork\n"


def test_a_fork_while_it_is_loaded_is_the_functions(tmp_path: Path) -> None:
    source = "import os\nif os.fork() == 0:\n    print('child')\n    os._exit(0)\nos.wait()\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        assert templates.fork()[0].call(1) == 1
        assert templates.runtime.stop() == 0
        assert templates.runtime.log == b"child\n"


def test_exit_functions_run_in_workers_and_once_in_the_template(tmp_path: Path) -> None:
    source = "import atexit, os\natexit.register(lambda: os.write(2, b'bye\\n'))\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.fork()
        assert worker.stop() == 0 and worker.log == b"bye\n"
        assert templates.runtime.stop() == 0 and templates.runtime.log == b"bye\n"


@pytest.mark.parametrize("action", ["SIG_IGN", "SIG_DFL"])
def test_a_function_that_ignores_its_children(tmp_path: Path, action: str) -> None:
    source = f"import signal\nsignal.signal(signal.SIGCHLD, signal.{action})\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        assert [worker.call(1) for worker in templates.fork(2)] == [1, 1]


def test_orphans_stay_below_their_worker(tmp_path: Path) -> None:
    source = """
import os
def handler(event, context):
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            while os.getppid() != event:
                pass
            os.write(writer, b"mine")
        os._exit(0)
    os.wait()
    os.close(writer)
    return os.read(reader, 10).decode()
"""
    with Templates(tmp_path, source) as templates:
        templates.start(adopts_orphans=True)
        (worker,) = templates.fork(1, adopts_orphans=True)
        assert worker.call(worker.pid) == "mine"


def test_a_rehearsal_is_not_to_be_seen(tmp_path: Path) -> None:
    source = "calls = []\ndef handler(event, context):\n    calls.append(event)\n    print(event)\n    return calls\n"
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.fork(1, rehearse=True)
        assert worker.lines == []
        assert worker.call("first") == ["first"]
        assert worker.logged() == ["first"] and worker.log == b""


def test_what_a_fork_hook_prints_does_not_come_before_hello(tmp_path: Path) -> None:
    source = """
import os, threading

def prints():
    for number in range(500):
        print(number)

os.register_at_fork(after_in_child=lambda: threading.Thread(target=prints).start())
"""
    with Templates(tmp_path, source + ECHO) as templates:
        templates.start()
        for worker in templates.fork(3):
            assert worker.call("event") == "event"


def test_stacks_of_a_worker(tmp_path: Path) -> None:
    source = "import os, time\ndef handler(event, context):\n    os.write(2, b'here\\n')\n    time.sleep(1000)\n"
    with Templates(tmp_path, source) as templates:
        templates.start()
        (worker,) = templates.fork()
        worker.invoke()
        assert select.select([worker.launched.log], [], [], HANGS)[0]
        killing.signal_child(worker.pid, launch.DUMP_SIGNAL)
        text = b""
        while b"in handler" not in text:
            assert select.select([worker.launched.dump], [], [], HANGS)[0], text
            text += os.read(worker.launched.dump, 65536)


def test_a_worker_enters_its_groups_first(tmp_path: Path) -> None:
    groups = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) for name in ("a", "b")]
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        (worker,) = templates.ask(1, groups)
        worker.hello(**DUMP)
        templates.settle()
        worker.ready()
    for group in groups:
        assert os.pread(group, 10, 0) == b"0"
        os.close(group)


def test_a_worker_that_cannot_enter_its_group_says_why_and_ends(tmp_path: Path) -> None:
    group = os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC)
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        (worker,) = templates.ask(1, [group])
        os.close(group)
        templates.settle()
        assert worker.ended() == 1
        assert b"cannot become a worker" in worker.log


def test_a_fork_that_fails_is_reported(tmp_path: Path) -> None:
    source = (
        """
import sys
def no(event, arguments):
    if event == "os.fork":
        raise BlockingIOError(11, "no")
sys.addaudithook(no)
"""
        + ECHO
    )
    with Templates(tmp_path, source) as templates:
        templates.start()
        templates.ask(2)
        templates.settle()
        assert templates.reported == [Forked(1, 0, errno.EAGAIN), Forked(2, 0, errno.EAGAIN)]


def test_no_room_for_descriptors_is_reported(tmp_path: Path) -> None:
    source = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n" + ECHO
    with Templates(tmp_path, source) as templates:
        templates.start()
        group = [templates.template.control] * 8
        templates.ask(1, group)
        templates.settle()
        assert templates.reported == [Forked(1, 0, errno.EMFILE)]
        assert templates.fork()[0].call(1) == 1


def test_asking_takes_nothing_if_there_are_no_descriptors(tmp_path: Path) -> None:
    with Templates(tmp_path, ECHO) as templates:
        templates.start()
        with few_descriptors(7), pytest.raises(OSError) as raised:
            templates.template.fork(99)
        assert raised.value.errno == errno.EMFILE


def test_a_template_that_does_not_listen_is_not_waited_for(tmp_path: Path) -> None:
    template = TemplateSocket([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"], {})
    asked: list[launch.ProcessPipes] = []
    with pytest.raises(TemplateBusy):
        while True:
            asked.append(template.fork(len(asked)))
    for process in asked:
        process.close()
    template.close()
    template.pipes.close()
    assert asked
    processes.wait_for_children()


def hostile(said: str, tickets: int) -> tuple[list[Forked], str]:
    """Return what the init makes of a template that sends these messages, and the error at the end."""
    code = f"""
import _socket
s = _socket.socket(fileno=7)
for _ in range({tickets}):
    s.recv(64)
for said in {said}:
    s.send(said)
"""
    template = TemplateSocket([sys.executable, "-I", "-S", "-c", code], {})
    processes_asked = [template.fork(ticket) for ticket in range(1, tickets + 1)]
    processes.wait_for_children()
    found: list[Forked] = []
    try:
        while not template.ended:
            found += template.reports()
        return found, ""
    except ProtocolError as error:
        return found, str(error)
    finally:
        for process in (template.pipes, *processes_asked):
            process.close()
        template.close()


@pytest.mark.parametrize(
    "said",
    [
        "[b'3 100']",
        "[b'1 100', b'1 101']",
        "[b'1 1']",
        "[b'1 4194304']",
        "[b'1']",
        "[b'1 0']",
        "[b'1 0 0']",
        "[b'1 0 99999']",
        "[b'1 100 11']",
        "[b'1 -5']",
        "[b'1  5']",
        "[b'1 100\\n']",
        "[b'1 2 3 4']",
        "['1 \u0664'.encode()]",
        "[b'9' * 65]",
        "[b'9' * 100000]",
    ],
)
def test_what_makes_no_sense_is_refused(said: str) -> None:
    found, error = hostile(said, 2)
    assert error and all(report.pid == 100 for report in found)


def test_what_makes_sense_is_not(tmp_path: Path) -> None:
    assert hostile("[b'1 100', b'2 0 11', b'0', b'0']", 2) == (
        [Forked(1, 100), Forked(2, 0, 11), Forked(1, 100, ours=True)],
        "",
    )


def test_a_template_that_never_gives_its_workers_away_is_refused() -> None:
    """Check that the init keeps at most MOST_BORN workers for which the second report has not come."""
    pids = [f"{ticket} {ticket + 100}".encode() for ticket in range(1, MOST_BORN + 2)]
    assert hostile(repr([*pids[:-1], b"0", pids[-1]]), MOST_BORN + 1)[1] == ""
    assert hostile(repr(pids), MOST_BORN + 1)[1] == "no report that the workers are children of the init"


def test_a_flood_of_reports_that_say_nothing_has_an_end() -> None:
    flood = REPORT_ROUND + 1
    code = f"import _socket\ns = _socket.socket(fileno=7)\nfor _ in range({flood}):\n    s.send(b'0')\n"
    template = TemplateSocket([sys.executable, "-I", "-S", "-c", code], {})
    processes.wait_for_children()
    assert template.reports() == [] and not template.ended, "other things are looked at first"
    assert template.reports() == [] and template.ended
    template.close()
    template.pipes.close()


def test_a_template_that_dies_is_heard_to_the_end(tmp_path: Path) -> None:
    code = "import _socket, os\ns = _socket.socket(fileno=7)\nos.read(0, 1)\ns.send(b'1 100')\n"
    template = TemplateSocket([sys.executable, "-I", "-S", "-c", code], {})
    asked = [template.fork(1), template.fork(2)]
    os.write(template.pipes.requests, b"x")
    processes.wait_for_children()  # the template has read none of the requests
    assert template.reports() == [Forked(1, 100)] and template.ended
    template.close()
    for process in (template.pipes, *asked):
        process.close()


def test_the_init_counts_all_that_fork_beside_the_functions_processes() -> None:
    assert FORKING == BATCH + 1, "a batch of workers that have not joined their groups, and who forks them"
