"""Tests of workers' cgroups on the command line, where this machine has hierarchies.

Version 1 is tested with its controllers. Version 2 is tested as far as the machine has it, because joining and killing
need no controller. tests/unit/test_cgroup.py tests what the files of a group mean.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import exit_codes
from pipe_init.kernel.execution import JoinError
from pipe_init.limits import delegation
from pipe_init.limits.delegation import Delegation, own_delegated, own_folder
from pipe_init.limits.rlimits import CannotLimit, Limits
from pipe_init.model import Function, Request, Settings, WorkerEnd
from pipe_init.policy.actions import Cause
from pipe_init.policy.worker_failures import answer
from pipe_init.workers import launch
from pipe_testing import groups, processes
from pipe_testing.command import PipeInit
from pipe_testing.fifo import Fifo
from pipe_testing.tools import require

FUNCTIONS = Path(__file__).parents[1] / "functions" / "limits"
MIB = 2**20

# The time limit only ends a test that hangs. On a busy machine a case can take 20 times as long as on a quiet one.
LIMITS = ("-m", "100", "--pids", "10", "--cpu-time", "1", "--open-files", "64", "--output-limit", "1", "-t", "60")
ALL = (*LIMITS, "--grace", "0.2", "-q")

# do: (error type, exit code, the limit's name, the limit's value, its peak)
BROKEN: dict[str, tuple[str, int, str | None, int | None, int | None]] = {
    "memory": ("Runtime.OutOfMemory", 137, "memory", 100 * MIB, 100 * MIB),
    "memory_in_a_child": ("LookupError", 1, "memory", 100 * MIB, 100 * MIB),
    "processes": ("BlockingIOError", 1, "pids", 10, 10),
    "processes_chained": ("LookupError", 1, "pids", 10, 10),
    "threads": ("RuntimeError", 1, "pids", 10, 10),
    "killed": ("Runtime.ExitError", 137, None, None, None),
    "open_files": ("OSError", 1, "open_files", 64, 64),
    "would_block": ("BlockingIOError", 1, None, None, None),
    "output": ("Function.ResponseSizeTooLarge", 1, "output", MIB, 3 * MIB + 2),
}


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """Make a folder with the functions in which a test may write."""
    shutil.copy(FUNCTIONS / "breaks.py", tmp_path)
    return tmp_path


@pytest.fixture
def version_1() -> Iterator[dict[str, str]]:
    """Yield the variable that gives pipe-init a folder in each of three hierarchies."""
    with groups.folders("memory", "pids", "cpu") as folders:
        yield {"PIPE_INIT_CGROUP": os.pathsep.join(folders)}


def check(name: str, error: dict[str, Any]) -> None:
    """Fail unless `error` is the one in BROKEN."""
    kind, _, limit, value, peak = BROKEN[name]
    assert error["errorType"] == kind, error
    expected = {key: each for key, each in (("name", limit), ("value", value), ("peak", peak)) if each is not None}
    assert error.get("limit", {}) == expected, error


def case(name: str) -> Any:
    """Return a case. Coverage needs descriptors of its own, so it is not measured where their number is the limit."""
    return pytest.param(name, marks=pytest.mark.unmeasured if BROKEN[name][2] == "open_files" else ())


class TestVersion1:
    @pytest.mark.parametrize("name", [*map(case, BROKEN)])
    def test_each_limit_has_its_own_error(
        self, pipe_init: PipeInit, function: Path, version_1: dict[str, str], name: str
    ) -> None:
        event = json.dumps({"do": name})
        finished = pipe_init("run", "breaks.handler", "-e", event, *ALL, cwd=function, env=version_1)
        check(name, json.loads(finished.stderr.splitlines()[-1]))
        assert finished.returncode == BROKEN[name][1]

    def test_one_after_the_other(self, pipe_init: PipeInit, function: Path, version_1: dict[str, str]) -> None:
        """Check that a request is told only of limits that were hit while it ran. The worker runs ahead of the init."""
        first = "would_block"  # it is sent alone; after it the worker is sent events ahead
        names = [first, "memory_in_a_child", "would_block", "threads", "would_block", "memory", "would_block"]
        stdin = "\n".join(json.dumps({"do": name}) for name in names).encode()
        arguments = ("--events", "-", *ALL)
        finished = pipe_init("run", "breaks.handler", *arguments, stdin=stdin, cwd=function, env=version_1)
        results = [json.loads(line) for line in finished.stdout.splitlines()]
        found = [result.get("limit", {}).get("name") for result in results]
        assert found == [None, None, None, "pids", None, "memory", None]

    def test_a_function_below_all_limits(self, pipe_init: PipeInit, function: Path, version_1: dict[str, str]) -> None:
        event = '{"do": "fine"}'
        finished = pipe_init("run", "breaks.handler", "-e", event, *ALL, "--cpus", "0.5", cwd=function, env=version_1)
        assert (finished.returncode, finished.stderr) == (0, b"")

    def test_the_worker_is_a_member_before_it_runs(
        self, pipe_init: PipeInit, function: Path, version_1: dict[str, str]
    ) -> None:
        (function / "member.py").write_text("def handler(event):\n    return open('/proc/self/cgroup').read()\n")
        arguments = ("run", "member.handler", "-q", "--cpus", "0.5")
        finished = pipe_init(*arguments, cwd=function, env=version_1)
        lines = [line for line in json.loads(finished.stdout).splitlines() if "pipe-init-test" in line]
        assert {line.split(":")[1] for line in lines} == {"memory", "pids", "cpu"}

    def test_half_a_cpu(self, pipe_init: PipeInit, function: Path, version_1: dict[str, str]) -> None:
        source = "import time\ndef handler(event):\n    begun, ends = time.process_time(), time.monotonic() + 1\n"
        (function / "busy.py").write_text(
            source + "    while time.monotonic() < ends: pass\n    return time.process_time() - begun\n"
        )
        finished = pipe_init("run", "busy.handler", "-q", "--cpus", "0.2", cwd=function, env=version_1)
        assert 0 < float(finished.stdout) < 0.5

    def test_a_fork_bomb_is_swept(self, pipe_init: PipeInit, function: Path, version_1: dict[str, str]) -> None:
        """Check that nothing is left: the fixtures look for processes and for groups."""
        arguments = ("-e", '{"do": "bomb"}', *ALL, "--pids", "50", "-t", "0.5")
        finished = pipe_init("run", "breaks.handler", *arguments, cwd=function, env=version_1)
        error = json.loads(finished.stderr.splitlines()[-1])
        assert (finished.returncode, error["errorType"]) == (124, "Sandbox.Timedout")
        assert error["limit"]["name"] == "time"

    def test_the_same_folder_twice_is_one(self, pipe_init: PipeInit, function: Path) -> None:
        with groups.folders("pids") as (folder,):
            arguments = ("-e", '{"do": "fine"}', "--pids", "9", "--cgroup", folder, "--cgroup", folder + "/", "-q")
            assert pipe_init("run", "breaks.handler", *arguments, cwd=function).returncode == 0

    def test_two_folders_of_one_hierarchy(self, pipe_init: PipeInit, function: Path) -> None:
        with groups.folders("pids") as (folder,):
            below = [os.path.join(folder, name) for name in "ab"]
            try:
                for each in below:
                    os.mkdir(each)
                given = [word for each in below for word in ("--cgroup", each)]
                finished = pipe_init("run", "breaks.handler", "--pids", "9", *given, cwd=function)
                assert finished.returncode == 2
                assert b"are of one hierarchy: a process can only be in one of them." in finished.stderr
            finally:
                for each in below:
                    os.rmdir(each)

    @pytest.mark.parametrize("mode", [("-w", "3"), ("--isolation", "request")], ids=["workers", "request"])
    def test_one_process_each(self, pipe_init: PipeInit, function: Path, mode: tuple[str, ...]) -> None:
        with groups.folders("pids") as (folder,):
            arguments = ("--events", "-", *mode, "--pids", "1", "--cgroup", folder, "-q")
            stdin = b'{"do": "processes"}\n{"do": "fine"}\n' * 2
            finished = pipe_init("run", "breaks.handler", *arguments, cwd=function, stdin=stdin)
            lines = [json.loads(line) for line in finished.stdout.splitlines()]
            assert [line["limit"] for line in lines[::2]] == [{"name": "pids", "value": 1, "peak": 1}] * 2
            assert [type(line) for line in lines[1::2]] == [int, int]

    @pytest.mark.unmeasured  # coverage would need more memory than there is
    def test_a_controller_that_is_not_given(self, pipe_init: PipeInit, function: Path) -> None:
        with groups.folders("pids") as folders:
            given = ("-e", '{"do": "memory"}', "-m", "100", "-q", "--cgroup", *folders)
            finished = pipe_init("run", "breaks.handler", *given, cwd=function)
            assert json.loads(finished.stderr)["errorType"] == "MemoryError"  # RLIMIT_DATA limits it instead
            finished = pipe_init("run", "breaks.handler", *given, "--cpus", "1", cwd=function)
            assert finished.returncode == 2
            assert b"controller cpu" in finished.stderr


@pytest.mark.parametrize("controllers", [("pids",), ("memory",), ("",), ("pids", "memory", "cpu")], ids=str)
class TestGroups:
    def test_what_leaves_the_process_group_is_swept(
        self, pipe_init: PipeInit, function: Path, fifo: Fifo, controllers: tuple[str, ...]
    ) -> None:
        (function / "leaves.py").write_text(
            "import subprocess\ndef handler(event):\n"
            "    subprocess.Popen(['sleep', '1000'], start_new_session=True)\n    return 'left'\n"
        )
        with groups.folders(*controllers) as folders:
            given = [word for folder in folders for word in ("--cgroup", folder)]
            finished = pipe_init("run", "leaves.handler", "-q", *given, cwd=function)
            assert finished.stdout == b'"left"\n'

    def test_kill_ends_all_that_is_in_it(self, controllers: tuple[str, ...]) -> None:
        with groups.folders(*controllers) as folders:
            parent = Delegation(folders)
            group = parent.group(Limits())
            source = (
                "import os, signal\nfor _ in range(5): os.fork()\nos.setpgid(0, 0)\nos.write(2, b'r')\nsignal.pause()"
            )
            process = subprocess.Popen(
                [_python(), "-S", "-c", source],
                stderr=subprocess.PIPE,
                preexec_fn=lambda: [os.write(each, b"0") for each in group.join_descriptors] and None,
            )
            assert process.stderr is not None
            assert process.stderr.read(32) == b"r" * 32
            assert len(group.members()) == 32
            group.kill()
            assert process.stderr.read() == b""  # all processes have ended, or the pipe would still be open
            process.stderr.close()
            process.wait()
            processes.end_children()
            assert group.close()
            assert parent.close()

    def test_a_group_with_a_process_in_it_stays_until_it_has_ended(self, controllers: tuple[str, ...]) -> None:
        with groups.folders(*controllers) as folders:
            parent = Delegation(folders)
            first, second = parent.group(Limits()), parent.group(Limits())
            assert set(first.folders).isdisjoint(second.folders)
            parent.release(first)
            parent.release(second)
            assert parent.close()
            assert not any(os.path.exists(folder) for folder in (*first.folders, *second.folders))


def _python() -> str:
    return launch.this_python()


class TestJoining:
    def test_a_worker_that_cannot_join_is_not_run(self) -> None:
        full = os.open("/dev/full", os.O_WRONLY)  # a write fails, as in a group without room
        process = launch.start(["/bin/sh", "-c", "exit 3"], {}, joins=[full])
        os.close(full)
        assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 127
        error = process.exec_error()
        process.close()
        assert isinstance(error, JoinError)
        assert error.errno == errno.ENOSPC

    def test_the_error_says_so(self) -> None:
        end = WorkerEnd(exec_error=JoinError(errno.EBUSY, "Device or resource busy"))
        request = Request("r1", b"", "", "", 1.0)
        error, code = answer(Function(["python"], {}, {}, Settings()), request, Cause.START_FAILED, end)
        assert (error["error_type"], code) == ("Runtime.ExitError", exit_codes.NOT_LOADED)
        assert "cannot join its cgroup: Device or resource busy" in error["error_message"]


class TestFolders:
    V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    INSIDE = "31 24 0:26 /machine/box /run/my\\040groups rw - cgroup2 cgroup2 rw\n"

    @pytest.mark.parametrize(
        ("group", "mounts", "folder"),
        [
            ("0::/user.slice/app.service\n", V2, "/sys/fs/cgroup/user.slice/app.service"),
            ("4:memory:/x\n0::/\n", V2, "/sys/fs/cgroup"),
            ("0::/machine/box/app\n", INSIDE, "/run/my groups/app"),
            ("0::/elsewhere\n", INSIDE, None),
            ("4:memory:/x\n", V2, None),
            ("0::/x\n", "30 24 0:26 / /sys rw - cgroup cgroup rw,memory\n", None),
        ],
    )
    def test_own_folder(self, group: str, mounts: str, folder: str | None) -> None:
        assert own_folder(group, mounts) == folder

    def test_to_be_able_to_write_is_not_enough(self) -> None:
        assert own_delegated(["memory", "pids", "cpus"]) == []  # the group of the tests is not marked as delegated

    def test_the_mark_of_systemd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with groups.folders("") as folders:
            (folder,) = folders
            try:
                os.setxattr(folder, delegation.DELEGATED, b"1")
            except OSError as error:
                pytest.skip(f"this kernel's cgroups have no attributes of users: {error}")
            joiner = "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write('0'); "
            look = "from pipe_init.limits import delegation; own_delegated = delegation.own_delegated; "
            probe = "delegation.words = lambda _: {'memory'}; print(own_delegated(['memory']), own_delegated(['pids']))"
            found = subprocess.run([_python(), "-c", joiner + look + probe, folder], capture_output=True, text=True)
            assert found.stdout == f"{[folder]} []\n", found.stderr

    def test_no_folder_of_cgroups(self, tmp_path: Path) -> None:
        with pytest.raises(CannotLimit, match=r"no cgroup: it has no cgroup\.procs"):
            Delegation([str(tmp_path)])

    def test_a_folder_that_takes_no_groups(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.procs").touch()
        with pytest.raises(CannotLimit, match="no cgroup can be used"):
            Delegation([str(tmp_path)])
        assert os.listdir(tmp_path) == ["cgroup.procs"]

    def test_controllers_are_switched_on_and_off_again(self, tmp_path: Path) -> None:
        require(os.path.isdir("/proc"), "needs /proc")
        (tmp_path / "cgroup.procs").touch()
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids hugetlb\n")
        control = tmp_path / "cgroup.subtree_control"
        control.write_text("memory\n")
        with pytest.raises(CannotLimit):  # the folder below is no cgroup; the controllers were switched on before
            Delegation([str(tmp_path)], ["memory", "pids", "cpus"])
        assert control.read_text() == "-cpu -pids"
