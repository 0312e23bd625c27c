"""Ask a template for workers over its control socket, and understand what it reports of them.

The socket never blocks, and what the template reports is as hostile as what any worker says. This module must not know
the frames of the template's conversation, or what its workers are for.
"""

from __future__ import annotations

import errno
import re
import struct
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipe_runtime.wire.errors import ProtocolError

from ..kernel.reaper import PID_LIMIT
from . import launch
from .sources import TemplateBusy

NO_SOCKETS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""Errors of socketpair(2) which say that the system forbids or lacks such sockets."""

REPORT_SIZE = 64
"""The most bytes of a report: three numbers are shorter."""

_REPORT = re.compile(rb"[0-9]{1,20}(?: [0-9]{1,20}){0,2}")

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
    """A template, and the socket on which it reports.

    It is a process of launch.runtime_command(...), and becomes a template with a HELLO that says so.

    Args:
        command: The command, as for launch.start.
        environment: The environment, likewise.
        joins: The cgroups, likewise.

    Raises:
        SocketsForbidden: There can be no template here.
        OSError: As launch.start.

    Attributes:
        pipes: The template, as a pid and pipes.
        ended: Whether the template has closed the socket.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], joins: Sequence[int] = ()) -> None:
        self.ended = False
        self._asked: set[int] = set()
        self._born: dict[int, int] = {}  # {ticket: pid} of those that are not children of the init yet
        try:
            self._socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        except OSError as error:
            if error.errno in NO_SOCKETS:
                raise SocketsForbidden(error.errno, error.strerror) from None
            raise
        try:
            self.pipes = launch.start(command, environment, joins, theirs.fileno())
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def control(self) -> int:
        """Return the descriptor to poll for reports and for their end; -1 once closed."""
        return self._socket.fileno()

    def fork(self, ticket: int, groups: Sequence[int] = ()) -> launch.ProcessPipes:
        """Ask for one worker. Its pid is 0 until it is reported; its HELLO may be written at once.

        If the template is dying, no report will come.

        Args:
            ticket: A number that was not used before.
            groups: Descriptors of the cgroup.procs files to which the worker writes first. They stay the caller's.

        Raises:
            TemplateBusy: The template does not keep up with what it was asked for.
            OSError: No descriptors are left.
        """
        process = launch.ProcessPipes(for_our_runtime=True)
        descriptors = [*process.theirs, *groups]
        data = struct.pack(f"{len(descriptors)}i", *descriptors)
        try:
            self._socket.sendmsg([b"%d" % ticket], [(SOL_SOCKET, SCM_RIGHTS, data)], MSG_DONTWAIT)
        except ConnectionError:
            return process  # how the template dies says why there is no worker
        except OSError as error:
            process.close()
            # ETOOMANYREFS: a user may have so many descriptors on their way through sockets only.
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                raise TemplateBusy(error.errno, error.strerror) from None
            raise
        finally:
            process.started()
        self._asked.add(ticket)
        return process

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

    def close(self) -> None:
        """Close the init's end of the socket. The template ends; its workers live on. Its pipes stay open."""
        self._socket.close()

    def _understand(self, data: bytes) -> list[Forked]:
        numbers = [int(word) for word in data.split()] if _REPORT.fullmatch(data) else []
        if numbers == [0]:
            fallen = [Forked(ticket, pid, ours=True) for ticket, pid in self._born.items()]
            self._born.clear()
            return fallen
        ticket, pid, number = (*numbers, 0, 0, 0)[:3]
        makes_sense = 1 < pid < PID_LIMIT if len(numbers) == 2 else not pid and number in errno.errorcode
        if ticket not in self._asked or not makes_sense:
            raise ProtocolError(f"a report without a meaning: {data[:REPORT_SIZE]!r}")
        self._asked.remove(ticket)
        if pid:
            self._born[ticket] = pid
        return [Forked(ticket, pid, number)]
