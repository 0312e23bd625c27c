"""Ask a template for workers over its control socket, and understand what it reports of them.

The socket never blocks, and what the template reports is as hostile as what any worker says. This module must not know
the frames of the template's conversation, or what its workers are for.
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
from .sources import TemplateBusy

NO_SOCKETS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""Errors of socketpair(2) which say that the system forbids or lacks such sockets."""

REPORT_SIZE = 64
"""The most bytes of a report: three numbers are shorter."""

REPORT_ROUND = 256
"""Reports read in a row before the caller looks at other things."""


class SocketsForbidden(OSError):
    """No control socket can be made on this system."""


class Forked(NamedTuple):
    """A report about one worker that was asked for.

    Each worker is reported twice: when it was forked, so that its death can be told from those of others, and when it
    has become a child of the init.

    Attributes:
        ticket: The number that the worker was asked for with.
        pid: Its pid, as the template says; 0 if it could not be forked.
        errno: Why it could not be forked, else 0.
        ours: Whether it is a child of the init now. If its death was not collected yet and it is no child, the template
            has lied.
    """

    ticket: int
    pid: int = 0
    errno: int = 0
    ours: bool = False


class TemplateSocket:
    """A template that was started, and the socket on which it reports.

    Attributes:
        process: The template and its pipes.
        ended: Whether the template has closed the socket.
    """

    def __init__(self, process: launch.Process, control: Any) -> None:
        self.process = process
        self.ended = False
        self._socket = control
        self._asked: set[int] = set()
        self._born: dict[int, int] = {}  # {ticket: pid} of those that are not children of the init yet
        self._claimed: set[int] = {process.pid, os.getpid()}

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], joins: Sequence[int] = ()) -> TemplateSocket:
        """Execute launch.runtime_command(...) as a template. It becomes one with HELLO (hello.template_hello).

        Args:
            command: The command, as for launch.start.
            environment: The environment, likewise.
            joins: The cgroups, likewise.

        Raises:
            SocketsForbidden: There can be no template here.
            OSError: As launch.start.
        """
        try:
            control, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        except OSError as error:
            if error.errno in NO_SOCKETS:
                raise SocketsForbidden(error.errno, error.strerror) from None
            raise
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
        """The descriptor to poll for reports and for their end; -1 once closed."""
        return self._socket.fileno()  # type: ignore[no-any-return]

    def fork(self, ticket: int, groups: Sequence[int] = ()) -> launch.Process:
        """Ask for one worker. Its pid is 0 until it is reported; its HELLO may be written at once.

        Args:
            ticket: A number that was not used before.
            groups: Descriptors of the cgroup.procs files to which the worker writes first. They stay the caller's.

        Raises:
            TemplateBusy: The template does not keep up with what it was asked for.
            OSError: It is gone, or no descriptors are left.
        """
        pipes = launch.make_pipes(True)
        descriptors = [*pipes.for_the_worker, *groups]
        data = struct.pack(f"{len(descriptors)}i", *descriptors)
        try:
            self._socket.sendmsg([b"%d" % ticket], [(SOL_SOCKET, SCM_RIGHTS, data)], MSG_DONTWAIT)
        except OSError as error:
            pipes.close()
            # ETOOMANYREFS: a user may have so many descriptors on their way through sockets only.
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                raise TemplateBusy(error.errno, error.strerror) from None
            raise
        self._asked.add(ticket)
        return pipes.process(0)

    def reports(self) -> list[Forked]:
        """Return what the template has reported since the last call, in order. Do not wait.

        Raises:
            ProtocolError: A report makes no sense. No other report of this template can be believed.
        """
        found: list[Forked] = []
        for _ in range(REPORT_ROUND):
            try:
                data = self._socket.recv(REPORT_SIZE + 1, MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # comes once if it died before it had read everything; its reports come after that
            if not data:
                self.ended = True
                break
            found += self._understand(data)
        return found

    def forget(self, pid: int) -> None:
        """Note that a worker's death was collected: the kernel may give its pid to another worker."""
        self._claimed.discard(pid)

    def close(self) -> None:
        """Close the init's end of the socket. The template ends; its workers live on. Its pipes stay open."""
        self._socket.close()

    def _understand(self, data: bytes) -> list[Forked]:
        numbers = _numbers(data)
        if numbers == [0]:
            fallen = [Forked(ticket, pid, ours=True) for ticket, pid in self._born.items()]
            self._born.clear()
            return fallen
        ticket, pid, number = (*numbers, 0, 0)[:3]
        if len(numbers) < 2 or ticket not in self._asked:
            raise ProtocolError(f"a report of a worker that was not asked for: {data!r}")
        if (len(numbers) == 3) == bool(pid) or (not pid and number not in errno.errorcode):
            raise ProtocolError(f"a report without a meaning: {data!r}")
        self._asked.remove(ticket)
        if not pid:
            return [Forked(ticket, 0, number)]
        if pid in self._claimed or not 1 < pid < PID_LIMIT:
            raise ProtocolError(f"a worker whose pid is another's, or cannot be one: {data!r}")
        self._claimed.add(pid)
        self._born[ticket] = pid
        return [Forked(ticket, pid)]


def _numbers(data: bytes) -> list[int]:
    """Return the unsigned decimal numbers of a report, one to three of them with blanks in between.

    Raises:
        ProtocolError: The report is something else.
    """
    words = data.split(b" ")
    if len(data) > REPORT_SIZE or len(words) > 3 or not all(word.isdigit() for word in words):
        raise ProtocolError(f"a report that cannot be read: {data[:REPORT_SIZE]!r}")
    return [int(word) for word in words]
