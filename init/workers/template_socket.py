"""A template as the init sees it: a process that was executed, and forks workers when it is asked.

It never blocks, and what the template says is as hostile as what any worker says. Its conversation, over the ordinary
pipes, is worker.py's; what is done with its workers is the starters' business.
"""

from __future__ import annotations

import errno
import os
import struct
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipe_runtime.wire.errors import ProtocolError

from ..kernel.reaper import PID_LIMIT
from . import launch

HELLO: Mapping[str, Any] = {"template": {"control_fd": launch.CONTROL_FD}}
"""What the init's HELLO to a template has besides a worker's."""

REPORT_SIZE = 64
"""Bytes of a report, at most: three numbers have less."""

REPORT_ROUND = 256
"""Reports read in a row before other things are looked at."""


class Forked(NamedTuple):
    """What has become of one worker that was asked for.

    errno: why it could not be forked, else 0, and pid is its pid, as the template says.
    ours: Each worker is reported twice. First, it was forked, and is not this process's child yet (False): who finds it
    dead knows whose it was. Then it is (True): unless its death was collected already, reaper.is_own_child(pid) holds,
    or the template has lied.
    """

    ticket: int
    pid: int = 0
    errno: int = 0
    ours: bool = False


class Template:
    """A started template. process: its pipes, for a Worker. control: to poll for reports. ended: it says no more."""

    def __init__(self, process: launch.Process, control: Any) -> None:
        self.process = process
        self.ended = False
        self._socket = control
        self._asked: set[int] = set()
        self._born: dict[int, int] = {}
        """ticket: pid of those that have not fallen to us yet."""
        self._claimed: set[int] = {process.pid, os.getpid()}

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], joins: Sequence[int] = ()) -> Template:
        """Execute launch.runtime_command(...) as a template; its HELLO must say HELLO above, too.

        OSError: as launch.start, or a pair of sockets is forbidden here.
        """
        control, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        try:
            process = launch.start(command, environment, theirs.fileno(), joins)
        except BaseException:
            control.close()
            raise
        finally:
            theirs.close()
        return cls(process, control)

    @property
    def control(self) -> int:
        """The descriptor that becomes readable with reports, and at their end; -1 once closed."""
        return self._socket.fileno()  # type: ignore[no-any-return]

    def fork(self, ticket: int, groups: Sequence[int] = ()) -> launch.Process:
        """Ask for one worker. Its pid is 0 until it is reported; its HELLO may be written at once.

        ticket: a number of the caller's, not used before. groups: descriptors of cgroup.procs files that it enters
        before anything else; they stay the caller's.
        BlockingIOError: the template is behind; ask later. OSError: it is gone, or there are no descriptors left.
        """
        pipes = launch.make_pipes(True)
        descriptors = [*pipes.for_the_worker, *groups]
        data = struct.pack(f"{len(descriptors)}i", *descriptors)
        try:
            self._socket.sendmsg([b"%d" % ticket], [(SOL_SOCKET, SCM_RIGHTS, data)], MSG_DONTWAIT)
        except OSError as error:
            pipes.close()
            if error.errno == errno.ETOOMANYREFS:  # of descriptors that lie in sockets a user may have so many only
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            raise
        self._asked.add(ticket)
        return pipes.process(0)

    def reports(self) -> list[Forked]:
        """What it has said since the last time, in its order, without waiting.

        ProtocolError: it has said what makes no sense. Believe nothing of it any more.
        """
        found: list[Forked] = []
        for _ in range(REPORT_ROUND):
            try:
                data = self._socket.recv(REPORT_SIZE + 1, MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # said once, if it has died without reading all; what it had said before comes behind that
            if not data:
                self.ended = True
                break
            found += self._understand(data)
        return found

    def forget(self, pid: int) -> None:
        """The death of this worker was collected: the kernel may give its pid to another one."""
        self._claimed.discard(pid)

    def close(self) -> None:
        """Close our end of the socket: the template ends, its workers do not. Its pipes are the Worker's to close."""
        self._socket.close()

    def _understand(self, data: bytes) -> list[Forked]:
        numbers = _numbers(data)
        if numbers == [0]:
            fallen = [Forked(ticket, pid, ours=True) for ticket, pid in self._born.items()]
            self._born.clear()
            return fallen
        ticket, pid, number = (*numbers, 0, 0)[:3]
        if len(numbers) < 2 or ticket not in self._asked:
            raise ProtocolError(f"a report of a worker that nobody has asked for: {data!r}")
        if (len(numbers) == 3) == bool(pid) or (not pid and number not in errno.errorcode):
            raise ProtocolError(f"a report without a meaning: {data!r}")
        self._asked.remove(ticket)
        if not pid:
            return [Forked(ticket, 0, number)]
        if pid in self._claimed or not 1 < pid < PID_LIMIT:
            raise ProtocolError(f"a worker whose pid is another one's, or nobody's: {data!r}")
        self._claimed.add(pid)
        self._born[ticket] = pid
        return [Forked(ticket, pid)]


def _numbers(data: bytes) -> list[int]:
    """One to three unsigned decimal numbers with a blank in between. ProtocolError: it is something else."""
    words = data.split(b" ")
    if len(data) > REPORT_SIZE or len(words) > 3 or not all(word.isdigit() for word in words):
        raise ProtocolError(f"a report that cannot be read: {data[:REPORT_SIZE]!r}")
    return [int(word) for word in words]
