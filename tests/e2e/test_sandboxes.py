"""Tests of the whole command in bare places: without network, /proc, /tmp, /dev, writable folders or known users.

Other places are: as PID 1, with closed standard descriptors, with few descriptors, and without room for more processes.
The first tests show that each place is as bare as its name says. Otherwise the other tests would prove nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import util
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import modes, processes, tools
from pipe_testing.command import Finished, PipeInit
from pipe_testing.patience import HANGS

MODES = modes.ON_REQUEST

pytestmark = pytest.mark.unmeasured  # coverage needs a place to write its data, and there is none

FUNCTIONS = '''
import ctypes, json, os, select, signal, socket, subprocess, sys, time


def hello(event):
    return "hello " + event.get("name", "world")


def echo(event):
    return event


def error(event):
    raise ValueError("no")


def hang(event):
    while True:
        time.sleep(1000)  # here it hangs


def segfault(event):
    ctypes.string_at(0)  # here it crashes


def talk(event):
    print("from print")
    os.write(1, b"from below Python\\n")
    os.system("echo from a shell")
    return subprocess.run(["sh", "-c", "echo from a child"], stdout=subprocess.PIPE, text=True).stdout


def by_name(event):
    return globals()[event["do"]](event)


def surroundings(event):
    """Return the entries of /, the init's pid, the user, network interfaces, and where files can be created."""
    writable = []
    for folder in event.get("folders", []):
        try:
            os.close(os.open(folder + "/probe", os.O_CREAT | os.O_WRONLY))
            writable.append(folder)
        except OSError:
            pass
    return {
        "root": sorted(os.listdir("/")),
        "init": os.getppid(),
        "user": os.getuid(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "writable": writable,
    }


def big(event):
    """Return more than a pipe holds. If asked, write to a file what the init's standard descriptors lead to."""
    if "to" in event:
        folder = f"/proc/{os.getppid()}/fd"
        links = {number: os.readlink(f"{folder}/{number}") for number in "012"}
        with open(event["to"], "w") as file:
            json.dump(links, file)
    return "x" * 300_000


def signal_init(event):
    if os.getppid() != 1:
        return "the init is not PID 1"
    os.kill(1, event["number"])
    hang(event)


def kill_itself(event):
    os.kill(os.getpid(), event["number"])


def orphans(event):
    """Leave ten orphans that end, and wait until all have been reaped, at most until the request's time limit."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for _ in range(10):
            if os.fork() == 0:
                os.write(writer, b"%9d" % os.getpid())
                os._exit(0)
        os._exit(0)  # its children, dead or not yet, are orphans now
    os.waitpid(child, 0)
    pids = [int(os.read(reader, 9)) for _ in range(10)]
    while any(map(exists, pids)):
        os.sched_yield()
    return len(set(pids))


def exists(pid):
    """Tell whether there is a process with this pid, zombies included. It needs no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def daemon(event):
    """Start an orphan in a session of its own that stays, and return its pid once it runs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.write(writer, b"%9d" % os.getpid())
        hang(event)
    os.waitpid(child, 0)
    pid = int(os.read(reader, 9))
    return pid if exists(pid) else "no daemon"


def daemon_and_death(event):
    if isinstance(daemon(event), int):
        os._exit(7)


def others(event):
    """Return all pids of this namespace except PID 1, this process and its parent."""
    return [pid for pid in range(1, 1000) if exists(pid) and pid not in (1, os.getppid(), os.getpid())]
'''

FUNCTION_DIR = "/function"
PACKAGES_DIR = "/packages"
PACKAGES = ("pipe_init", "pipe_runtime", "msgpack", "click")

EVENTS = [{"do": "hello"}, {"do": "segfault"}, {"do": "hello", "name": "again"}]


@dataclass(frozen=True)
class Place:
    """A place in which a test runs the command.

    Attributes:
        prefix: The command that enters the place.
        environment: Changes to the environment. A value of None removes the variable.
        cwd: The working directory. None is the test's own.
    """

    runner: PipeInit
    code_dir: str
    prefix: Sequence[str] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    cwd: Path | None = None

    def __call__(self, handler: str, *options: str, event: Any = None, stdin: bytes = b"", close: str = "") -> Finished:
        """Run a handler of FUNCTIONS quietly. `close` lists the descriptors to close before the exec."""
        if event is not None:
            options = (*options, "-e", json.dumps(event))
        return self.command("run", f"index.{handler}", "-q", "-C", self.code_dir, *options, stdin=stdin, close=close)

    def command(self, *arguments: str, stdin: bytes = b"", close: str = "") -> Finished:
        """Run pipe-init with these arguments, and wait until all its processes have ended by themselves."""
        others = processes.children()
        program = PipeInit()
        own = self.runner.command
        program.command = [*self.prefix, *(closing(own[0], close) if close else []), *own]
        done = program(*arguments, stdin=stdin, cwd=self.cwd, env=self.environment)
        processes.wait_for_children(keep=others)  # bwrap's PID 1 outlives bwrap until its last child has ended
        return done


def closing(python: str, numbers: str) -> list[str]:
    """Return a command prefix that closes descriptors and then becomes the command after it."""
    code = "import os, sys; [os.close(int(digit)) for digit in sys.argv[1]]; os.execv(sys.argv[2], sys.argv[2:])"
    return [python if Path(python).name.startswith("python") else sys.executable, "-S", "-c", code, numbers]


def limiting(name: str, value: int) -> list[str]:
    """Return a command prefix that sets a resource limit and then becomes the command after it."""
    code = (
        "import os, resource, sys; name, value = getattr(resource, sys.argv[1]), int(sys.argv[2]); "
        "resource.setrlimit(name, (value, value)); os.execv(sys.argv[3], sys.argv[3:])"
    )
    return [sys.executable, "-S", "-c", code, name, str(value)]


@cache
def refusal(*command: str) -> str:
    """Return why `true` cannot be run with this prefix, or "" if it can."""
    others = processes.children()
    done = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=HANGS)
    processes.wait_for_children(keep=others)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "no reason given"


def unshare(require_tool: Callable[[str], str], *options: str) -> list[str]:
    """Return an unshare(1) prefix. It makes a user namespace first, so that root is not needed for the others."""
    user = [] if os.geteuid() == 0 or "--user" in options else ["--map-root-user"]
    command = [require_tool("unshare"), *user, *options]
    why = refusal(*command)
    tools.require(not why, f"needs namespaces ({' '.join(options)}): {why}")
    return command


def bubblewrap(require_tool: Callable[[str], str], folder: Path, *options: str) -> list[str]:
    """Return a bwrap(1) prefix with only the interpreter, the system's libraries, the packages and the function."""
    command = [require_tool("bwrap"), "--unshare-all", *options]
    for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            command += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            command += ["--ro-bind", name, name]
    for prefix in sorted({sys.base_prefix, os.path.realpath(sys.base_prefix), str(interpreter().parent.parent)}):
        if not Path(prefix).is_relative_to("/usr"):
            command += ["--ro-bind", prefix, prefix]
    for name in PACKAGES:
        spec = util.find_spec(name)
        assert spec is not None and spec.origin is not None
        command += ["--ro-bind", str(Path(spec.origin).parent), f"{PACKAGES_DIR}/{name}"]
    command += ["--ro-bind", str(folder), FUNCTION_DIR, "--chdir", "/", "--remount-ro", "/"]
    why = refusal(*command)
    tools.require(not why, f"needs a bwrap that works: {why}")
    return command


def interpreter() -> Path:
    """Return the interpreter itself, not a virtual environment's link to it."""
    return Path(sys.executable).resolve()


def bare(require_tool: Callable[[str], str], folder: Path, *options: str) -> Place:
    """Return a sandbox without /proc, /tmp and /dev in which no file can be written."""
    runner = PipeInit()
    runner.command = [str(interpreter()), "-m", "pipe_init"]
    environment: dict[str, str | None] = {"PYTHONPATH": PACKAGES_DIR, "HOME": "/", "PATH": "/usr/bin:/bin"}
    return Place(runner, FUNCTION_DIR, bubblewrap(require_tool, folder, *options), environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the function's folder."""
    folder = tmp_path_factory.mktemp("function")
    (folder / "index.py").write_text(FUNCTIONS)
    return folder


@pytest.fixture
def here(folder: Path) -> Place:
    """Return a place without any sandbox."""
    return Place(PipeInit(), str(folder))


@pytest.fixture
def no_network(here: Place, require_tool: Callable[[str], str]) -> Place:
    """Return a place with a network namespace of its own, in which even the loopback interface is down."""
    return Place(here.runner, here.code_dir, unshare(require_tool, "--net"))


@pytest.fixture
def pid_1(here: Place, require_tool: Callable[[str], str]) -> Place:
    """Return a place where pipe-init is PID 1 of a PID namespace, with that namespace's /proc."""
    options = ("--pid", "--fork", "--kill-child", "--mount-proc")
    return Place(here.runner, here.code_dir, unshare(require_tool, *options))


@pytest.fixture
def nobody(here: Place, require_tool: Callable[[str], str]) -> Place:
    """Return a place in a user namespace where no user and no group has a name."""
    return Place(here.runner, here.code_dir, unshare(require_tool, "--user"))


@pytest.fixture
def sandbox(folder: Path, require_tool: Callable[[str], str]) -> Place:
    """Return a bare sandbox. Its PID 1 is bwrap, which reaps orphans and ends only after the last of them."""
    return bare(require_tool, folder)


@pytest.fixture
def sandbox_pid_1(folder: Path, require_tool: Callable[[str], str]) -> Place:
    """Return a bare sandbox in which pipe-init is PID 1."""
    return bare(require_tool, folder, "--as-pid-1")


@pytest.fixture(params=["no_network", "pid_1", "nobody", "sandbox", "sandbox_pid_1"])
def place(request: pytest.FixtureRequest) -> Place:
    """Return each of the places in turn."""
    value: Place = request.getfixturevalue(request.param)
    return value


@pytest.fixture(params=["pid_1", "sandbox", "sandbox_pid_1"])
def pid_namespace(request: pytest.FixtureRequest) -> Place:
    """Return each place that has a PID namespace of its own."""
    value: Place = request.getfixturevalue(request.param)
    return value


def result_of(done: Finished) -> Any:
    """Return the result of a run, which must have succeeded with nothing on stderr."""
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def error_of(done: Finished) -> dict[str, Any]:
    """Return the error on stderr of a run, which must have printed no result."""
    assert done.stdout == b""
    error: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return error


# The places are as bare as their names say


def test_a_place_without_network_has_none(no_network: Place) -> None:
    assert result_of(no_network("surroundings"))["interfaces"] == ["lo"]


@pytest.mark.modes(modes.EXEC)  # a worker from a template has another parent at first
def test_in_a_pid_namespace_pipe_init_is_pid_1(pid_1: Place) -> None:
    assert result_of(pid_1("surroundings"))["init"] == 1


def test_the_user_nobody_has_no_name(nobody: Place) -> None:
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        assert result_of(nobody("surroundings"))["user"] == int(file.read())


@pytest.mark.modes(modes.EXEC)  # a worker from a template has another parent at first
@pytest.mark.parametrize(("name", "init"), [("sandbox", 2), ("sandbox_pid_1", 1)])
def test_a_sandbox_is_bare(name: str, init: int, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(name)
    folders = ["", "/usr", "/usr/bin", "/var/tmp", "/dev/shm", "/tmp", "/proc", "/run", FUNCTION_DIR, PACKAGES_DIR]
    folders += [sys.base_prefix, *(f"{PACKAGES_DIR}/{package}" for package in PACKAGES)]
    found = result_of(place("surroundings", event={"folders": folders}))
    assert (found["init"], found["interfaces"], found["writable"]) == (init, ["lo"], [])
    assert not {"proc", "tmp", "dev", "sys", "run", "var", "etc", "home"} & set(found["root"])


# Everything works in each place


def test_an_event_comes_back_as_it_went(place: Place) -> None:
    event = {"text": "gr\u00fc\u00dfe \U0001f40d", "list": [1, 2.5, None, True], "large": "x" * 100_000}
    assert result_of(place("echo", "-f", "-", stdin=json.dumps(event).encode())) == event


def test_an_exception(place: Place) -> None:
    done = place("error")
    error = error_of(done)
    assert (done.returncode, error["errorType"], error["errorMessage"]) == (1, "ValueError", "no")


def test_a_timeout_with_the_stack_of_what_hung(place: Place) -> None:
    done = place("hang", "-t", "0.7")
    error = error_of(done)
    assert (done.returncode, error["errorType"]) == (124, "Sandbox.Timedout")
    assert f"line {line_of('here it hangs')}, in hang" in "".join(error["stackTrace"])


def test_a_crash_with_its_stack(place: Place) -> None:
    done = place("segfault")
    error = error_of(done)
    assert (done.returncode, error["errorType"]) == (139, "Runtime.ExitError")
    assert error["errorMessage"].endswith("signal: segmentation fault")
    assert f"line {line_of('here it crashes')}, in segfault" in "".join(error["stackTrace"])


def test_prints_and_children_that_print(place: Place) -> None:
    done = place("talk")
    assert (done.returncode, done.stdout) == (0, b'"from a child\\n"\n')
    assert sorted(done.stderr.splitlines()) == [b"from a shell", b"from below Python", b"from print"]


def test_events_with_a_crash_in_their_midst(place: Place) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS)
    done = place("by_name", "--events", "-", stdin=lines.encode())
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first, second["errorType"], third) == ("hello world", "Runtime.ExitError", "hello again")
    assert (done.returncode, done.stderr) == (139, b"")


# Standard descriptors that are closed

CLOSED = ["".join(numbers) for count in range(4) for numbers in combinations("012", count)]


@pytest.mark.modes(modes.EXEC)  # a worker from a template has another parent at first
@pytest.mark.parametrize("close", CLOSED)
def test_closed_descriptors_are_plugged_and_cost_no_result(here: Place, close: str, tmp_path: Path) -> None:
    done = here("big", event={"to": str(tmp_path / "links")}, close=close)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (b"" if "1" in close else b'"' + b"x" * 300_000 + b'"\n')
    links = json.loads((tmp_path / "links").read_text())
    for number, link in links.items():
        # Open descriptors are still the test's pipes. No pipe of pipe-init took the number of a closed one.
        assert link == "/dev/null" if number in close else link.startswith("pipe:"), links
    assert len({link for number, link in links.items() if number not in close}) == 3 - len(close), links


@pytest.mark.parametrize("close", CLOSED)
def test_closed_descriptors_where_nothing_can_plug_them(sandbox: Place, folder: Path, close: str) -> None:
    (folder / "big-and-error").write_text('{"do": "big"}\n{"do": "error"}\n')  # stdin may be closed
    done = sandbox("by_name", "--events", f"{FUNCTION_DIR}/big-and-error", close=close)
    assert (done.returncode, done.stderr) == (1, b"")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if "1" in close:
        assert results == []
    else:
        assert (results[0], results[1]["errorType"]) == ("x" * 300_000, "ValueError")


@pytest.mark.parametrize("close", ["1", "2", "012"])
def test_the_exit_code_is_right_where_nothing_can_be_said(sandbox: Place, close: str) -> None:
    assert sandbox("kill_itself", event={"number": 9}, close=close).returncode == 137


@pytest.mark.parametrize("name", ["here", "sandbox"])
def test_a_closed_stdin_holds_no_events(name: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(name)
    done = place("hello", "--events", "-", close="0", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("close", ["2", "012"])
def test_an_error_message_without_a_stderr(sandbox: Place, close: str) -> None:
    assert sandbox.command("run", "--no-such-option", close=close).returncode == 2


# As PID 1, and in other places where processes are left over


@pytest.mark.parametrize(("number", "code"), [(15, 143), (2, 130), (1, 129)], ids=["TERM", "INT", "HUP"])
def test_signals_end_pid_1(pid_1: Place, number: int, code: int) -> None:
    # Without a handler the kernel drops a signal to PID 1. The run would then end with 124.
    done = pid_1("signal_init", "-t", "30", "--grace", "0.2", event={"number": number})
    assert (done.returncode, error_of(done)["errorType"]) == (code, "Runtime.Stopped")


@pytest.mark.parametrize("number", [9, 15])
def test_pid_1_passes_on_what_the_worker_died_of(pid_1: Place, number: int) -> None:
    done = pid_1("kill_itself", event={"number": number})
    assert (done.returncode, error_of(done)["errorType"]) == (128 + number, "Runtime.ExitError")


def test_a_template_may_end_where_proc_shows_other_pids(here: Place, require_tool: Callable[[str], str]) -> None:
    place = Place(here.runner, here.code_dir, unshare(require_tool, "--pid", "--fork", "--kill-child"))
    done = place("echo", "--events", "-", "--isolation", "request", stdin=b"1\n2\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n2\n", b"")


def test_orphans_are_collected(pid_namespace: Place) -> None:
    assert result_of(pid_namespace("orphans", "-t", "30")) == 10


def test_a_daemon_is_gone_at_the_end(pid_namespace: Place) -> None:
    assert isinstance(result_of(pid_namespace("daemon")), int)


@pytest.mark.modes(modes.EXEC)  # the test looks at all processes, and a template would be one more
def test_what_a_dead_worker_left_is_gone_before_the_next_request(pid_namespace: Place) -> None:
    events = b'{"do": "daemon_and_death"}\n{"do": "others"}\n'
    done = pid_namespace("by_name", "--events", "-", stdin=events)
    died, others = map(json.loads, done.stdout.splitlines())
    assert died["errorMessage"].endswith("exit status 7")
    assert others == []
    assert (done.returncode, done.stderr) == (1, b"")


# Limits


@pytest.mark.parametrize("limit", [8, 14, 20])
def test_too_few_descriptors_are_told(here: Place, limit: int) -> None:
    place = Place(here.runner, here.code_dir, limiting("RLIMIT_NOFILE", limit))
    done = place("hello")
    assert done.returncode in (3, 126)
    assert error_of(done)["errorMessage"].endswith(f"Too many open files (the limit is {limit}, see ulimit -n)")


def test_few_descriptors_are_enough(here: Place) -> None:
    place = Place(here.runner, here.code_dir, limiting("RLIMIT_NOFILE", 32))
    assert result_of(place("hello")) == "hello world"


@pytest.fixture
def counted(require_tool: Callable[[str], str]) -> Iterator[list[str]]:
    """Return a command prefix for a user whom RLIMIT_NPROC binds, since it does not bind root."""
    prefix = []
    if os.geteuid() == 0:
        # A user without any process of its own, but with root's access to every folder.
        capability = "-all,+dac_override"
        prefix = [require_tool("setpriv"), "--reuid=64123", "--clear-groups"]
        prefix += [f"--inh-caps={capability}", f"--ambient-caps={capability}"]
        why = refusal(*prefix)
        tools.require(not why, f"needs a setpriv that works: {why}")
    yield prefix


def test_no_more_processes_is_told(here: Place, counted: list[str]) -> None:
    # click asks access(2), which ignores that user's capabilities. So no path may lead through root's folders.
    folder = Path(here.code_dir)
    folder.chmod(0o755)
    place = Place(here.runner, ".", [*counted, *limiting("RLIMIT_NPROC", 1)], cwd=folder)
    done = place("hello")
    assert done.returncode == 3
    assert error_of(done)["errorMessage"].endswith("Runtime could not be started: Resource temporarily unavailable")


def line_of(comment: str) -> int:
    """Return the number of the line of FUNCTIONS with this comment."""
    (number,) = (number for number, line in enumerate(FUNCTIONS.splitlines(), 1) if line.endswith(f"# {comment}"))
    return number
