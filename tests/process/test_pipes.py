"""Tests of the runtime's descriptors: what claim() leaves on fds 0 to 2, and how it reads and writes.

The children here run pipe_runtime's module io.pipes alone, without a conversation.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from textwrap import dedent

import pytest

from pipe_runtime.io.pipes import READ_SIZE, Pipes
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS


@pytest.fixture
def ends() -> Iterator[tuple[int, int, int, int]]:
    """Yield two pipes: requests to read and to write, answers to read and to write."""
    requests_out, requests_in = os.pipe()
    answers_out, answers_in = os.pipe()
    yield requests_out, requests_in, answers_out, answers_in
    for end in (requests_out, requests_in, answers_out, answers_in):
        try:
            os.close(end)
        except OSError:
            continue  # the test has closed it


def claimed(code: str, redirection: str = "", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `code` after a claim(). `pipes` is what claim() returned."""
    program = "import os, sys\nfrom pipe_runtime.io.pipes import claim\npipes = claim(65536)\n" + dedent(code)
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, program],
        input=stdin,
        capture_output=True,
        env=unmeasured(),
        timeout=HANGS,
        cwd="/",  # with -c the interpreter looks for modules here first
    )


def test_protocol_has_descriptors_of_its_own() -> None:
    ended = claimed("pipes.write(pipes.read()); assert pipes.read() == b''", stdin=b"request")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"request", b"")


def test_fd_0_is_at_its_end_and_fd_1_writes_to_fd_2() -> None:
    ended = claimed(
        """
        assert os.read(0, 10) == b""
        os.write(1, b"one ")
        os.system("echo two; cat")
        pipes.write(b"answer")
        """,
        stdin=b"request",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"answer", b"one two\n")


def test_children_do_not_inherit_the_private_descriptors() -> None:
    ended = claimed(
        """
        import subprocess
        mine = [os.readlink(f"/proc/self/fd/{fd}") for fd in (pipes.requests, pipes.answers)]
        listed = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True).stdout.decode()
        assert len(set(mine)) == 2 and not any(one in listed for one in mine)
        """
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_an_error(redirection: str) -> None:
    assert claimed("", redirection).returncode == 1


def test_closed_stderr_is_plugged() -> None:
    ended = claimed(
        """
        for fd in (1, 2):
            os.write(fd, b"lost")
            assert os.get_inheritable(fd)
        reader, writer = os.pipe()
        assert min(reader, writer) > 2
        assert os.system("echo lost; echo lost >&2") == 0
        pipes.write(b"answer")
        """,
        "2>&-",
    )
    assert (ended.returncode, ended.stdout) == (0, b"answer")


def test_closed_stderr_without_dev_null() -> None:
    program = dedent(
        """
        import os
        from pipe_runtime.io import pipes as module
        def open_nothing(path, flags):
            raise FileNotFoundError(2, "No such file or directory", path)
        os.open = open_nothing
        pipes = module.claim(0)
        try:
            os.write(2, b"lost")
        except BrokenPipeError:
            pipes.write(b"refused")
        """
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program], capture_output=True, stdin=subprocess.PIPE
    )
    assert (ended.returncode, ended.stdout) == (0, b"refused")


def test_read_gives_what_there_is(ends: tuple[int, int, int, int]) -> None:
    pipes = Pipes(ends[0], ends[3], 0)
    os.write(ends[1], b"x" * 10)
    assert pipes.read() == b"x" * 10
    os.write(ends[1], b"y")
    os.close(ends[1])
    assert [pipes.read(), pipes.read(), pipes.read()] == [b"y", b"", b""]


def test_read_waits_on_a_description_that_was_made_non_blocking(ends: tuple[int, int, int, int]) -> None:
    pipes = Pipes(ends[0], ends[3], 0)
    os.set_blocking(ends[0], False)
    pipes.spin(50)
    pid = os.fork()
    if not pid:
        # Write only when the parent sleeps in its poll, or is about to: it has nothing else to wait for.
        os.write(ends[1], b"late")
        os._exit(0)
    assert pipes.read() == b"late"
    os.waitpid(pid, 0)


def test_a_read_that_finds_no_memory_frees_some_and_reads_again(
    ends: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def read(descriptor: int, size: int) -> bytes:
        calls.append("read")
        if len(calls) == 1:
            raise MemoryError
        return os.read(descriptor, size)

    monkeypatch.setattr("pipe_runtime.io.pipes.read", read)
    pipes = Pipes(ends[0], ends[3], 0)
    pipes.free_memory = lambda: calls.append("free")
    os.write(ends[1], b"request")
    assert pipes.read() == b"request"
    assert calls == ["read", "free", "read"]


@pytest.mark.parametrize(("blocking", "told"), [(True, False), (False, False), (False, True)])
def test_a_write_that_must_wait_reads_and_keeps_the_order(
    ends: tuple[int, int, int, int], blocking: bool, told: bool
) -> None:
    requests_out, requests_in, answers_out, answers_in = ends
    for end in ends:
        os.set_blocking(end, blocking)
    sent = bytes(range(256)) * 4096
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.set_blocking(requests_in, True)
            os.set_blocking(answers_out, True)
            view = memoryview(sent)
            while view:  # write all of it before the first byte is read
                view = view[os.write(requests_in, view[:READ_SIZE]) :]
            left = len(sent)
            while left:
                left -= len(os.read(answers_out, READ_SIZE))
            code = 0
        finally:
            os._exit(code)
    os.close(requests_in)
    os.close(answers_out)
    pipes = Pipes(requests_out, answers_in, len(sent), nonblocking=told)
    pipes.write(sent)
    got = []
    while data := pipes.read():
        got.append(data)
    assert b"".join(got) == sent
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("nonblocking", [False, True])
def test_no_more_is_kept_than_allowed(ends: tuple[int, int, int, int], nonblocking: bool) -> None:
    requests_out, requests_in, answers_out, answers_in = ends
    os.set_blocking(answers_in, not nonblocking)
    pipes = Pipes(requests_out, answers_in, 1, nonblocking)
    os.write(requests_in, b"r" * READ_SIZE)
    pid = os.fork()
    if not pid:
        pipes.write(b"a" * 1_000_000)
        # Only one read was kept. The rest is still in the pipe.
        os._exit(len(pipes._kept) == 1 and len(pipes._kept[0]) <= READ_SIZE)
    os.set_blocking(requests_in, False)
    writable = select.poll()
    writable.register(requests_in, select.POLLOUT)
    taken = READ_SIZE
    while taken < 2 * READ_SIZE:  # what the pipe holds, and one read
        assert writable.poll(HANGS * 1000)
        taken += os.write(requests_in, b"r" * 4096)
    left = 1_000_000
    while left:
        left -= len(os.read(answers_out, READ_SIZE))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_write_that_waits_reads_the_end_of_the_requests_once(ends: tuple[int, int, int, int]) -> None:
    requests_out, requests_in, answers_out, answers_in = ends
    pipes = Pipes(requests_out, answers_in, 65536)
    fill(answers_in)
    os.close(requests_in)
    reader = threading.Timer(0.05, os.read, (answers_out, READ_SIZE))
    reader.start()
    pipes.write(b"a")
    reader.join()
    assert pipes._kept == [b""]


@pytest.mark.parametrize("nonblocking", [False, True])
def test_a_write_without_a_reader(ends: tuple[int, int, int, int], nonblocking: bool) -> None:
    pipes = Pipes(ends[0], ends[3], 65536, nonblocking)
    os.close(ends[2])
    with pytest.raises(BrokenPipeError):
        pipes.write(b"x")


INTERRUPTED_READS = """
import os, select, signal, sys
from random import Random
from pipe_runtime.io.pipes import Pipes

requests_out, requests_in = os.pipe()
answers_out, answers_in = os.pipe()
writable = select.poll()
writable.register(answers_in, select.POLLOUT)
while writable.poll(0):
    os.write(answers_in, b"x" * 4096)
pipes = Pipes(requests_out, answers_in, 1_000_000)

class Rang(Exception):
    pass

def ring(number, frame):
    global armed
    if armed:
        armed = False
        raise Rang

armed = False
random, rang = Random(int(sys.argv[1])), 0
signal.signal(signal.SIGALRM, ring)
for number in range(2000):
    os.write(requests_in, b"%07d\\n" % number)
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 30e-6))
        pipes._keep_or_writable()
        armed = False
    except Rang:
        rang += 1
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
os.close(requests_in)
got = []
while data := pipes.read():
    got.append(data)
assert rang
assert b"".join(got) == b"".join(b"%07d\\n" % number for number in range(2000))
"""


def test_a_signal_handler_that_raises_loses_no_bytes(seed: int) -> None:
    """Check that no byte is missing if a signal handler raises at random moments while a write waits.

    This runs in an interpreter of its own, since coverage fails if an exception comes at any moment.
    """
    command = [sys.executable, "-c", INTERRUPTED_READS, str(seed)]
    done = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stderr) == (0, "")


def fill(descriptor: int) -> None:
    """Fill a pipe until it takes no more."""
    writable = select.poll()
    writable.register(descriptor, select.POLLOUT)
    while writable.poll(0):
        os.write(descriptor, b"f" * 4096)


def test_close_forgets_the_numbers(ends: tuple[int, int, int, int]) -> None:
    pipes = Pipes(ends[0], ends[3], 0)
    pipes.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        pipes.write(b"must not reach a file that has taken the number")
    pipes.close()
